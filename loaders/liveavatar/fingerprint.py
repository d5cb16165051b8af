"""One short text for everything that decides a LiveAvatar video, to know in a later process whether it is the same."""

from __future__ import annotations

from typing import Any

from ...engines.liveavatar.config import SamplingConfig
from ...engines.parts.wan.vae import WanVAE
from ..identity import device_identity, fingerprint, weights_identity
from .conditioning import Condition
from .model import TransformerSource
from .speech import Speech

FORMAT = 2
"""Raised when a change to the engine lets the same inputs give other frames."""


def run_fingerprint(
    model: TransformerSource,
    vae: WanVAE,
    condition: Condition,
    speech: Speech,
    config: SamplingConfig,
    frames: int,
    rounding: list[bool | str],
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
        model.identity(),
        weights_identity(vae.model.named_parameters()),
        device_identity(model.device, model.dtype),
        rounding,
        *([] if decoder is None else [decoder.identity()]),
    )
