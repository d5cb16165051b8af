"""A hash of everything that decides a LiveAvatar video, by which a later process knows the same video again."""

from __future__ import annotations

from typing import Any

from ...engines.liveavatar.config import SamplingConfig
from ..identity import device_identity, fingerprint, looked_at, tensors_of_patch, weights_identity
from ..wan.vae import HostVAE
from .conditioning import Condition
from .speech import Speech
from .transformer import compute_dtype

FORMAT = 1
"""Raised when a change to the engine lets the same inputs give other frames."""


def run_fingerprint(
    model: Any,
    vae: HostVAE,
    condition: Condition,
    speech: Speech,
    config: SamplingConfig,
    frames: int,
    rounding: list[bool],
    decoder: Any = None,
) -> str:
    """A hash of everything that decides a LiveAvatar video.

    It covers every value of prompt, portrait, pose, masks, sound and settings; a sample of model, LoRA, VAE, fast
    decoder and audio encoder (by its features of the first block); the kind of device, and how it rounds
    (``rounding``)."""
    return fingerprint(
        FORMAT,
        condition,
        config,
        frames,
        speech.audio,
        speech.masks,
        next(iter(speech.source.blocks())),
        model_identity(model),
        weights_identity(vae.vae.model.named_parameters()),
        device_identity(model.load_device, compute_dtype(model)),
        rounding,
        *([] if decoder is None else [decoder.identity()]),
    )


def model_identity(model: Any) -> list[Any]:
    """The identity of a host's MODEL: a few values of every weight, and of every LoRA and other patch on it.

    Patched weights count by their patch only, because their values depend on whether the host has loaded them.
    """
    patches = {
        key: [(patch[0], list(tensors_of_patch(patch[1]))) for patch in model.patches[key]]
        for key in model.patches
    }
    weights = model.model.diffusion_model.named_parameters()
    own = ((name, weight) for name, weight in weights if f"diffusion_model.{name}" not in patches)
    return [weights_identity(own, compute_dtype(model)), looked_at(patches)]
