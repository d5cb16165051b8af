"""One short text for everything that decides a LiveAvatar video, to know in a later process whether it is the same."""

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
    """Of everything that decides a LiveAvatar video: every value of prompt, portrait, pose, masks, sound and settings;
    of model, LoRA, VAE, fast decoder and audio encoder (by what it hears in the first block) a sample; the kind of
    device, and how it computes (``rounding``)."""
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
    """What tells one host MODEL from another: a few values of every weight, and of every LoRA and other patch on it.

    The weights that are patched count by their patch only: how they look depends on what is loaded where.
    """
    patches = {
        key: [(patch[0], list(tensors_of_patch(patch[1]))) for patch in model.patches[key]]
        for key in model.patches
    }
    weights = model.model.diffusion_model.named_parameters()
    own = ((name, weight) for name, weight in weights if f"diffusion_model.{name}" not in patches)
    return [weights_identity(own, compute_dtype(model)), looked_at(patches)]
