"""A hash of everything that decides a LiveAvatar video, by which a later process knows the same video again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...engines.liveavatar.config import SamplingConfig
from ...engines.liveavatar.speech_source import SpeechSource
from ...media.speech import Speech
from ..identity import device_identity, fingerprint, weights_identity
from .conditioning import Condition
from .model import TransformerSource
from .moods import Mood

if TYPE_CHECKING:
    from ...engines.parts.wan.vae import WanVAE

FORMAT = 2
"""Raised when a change to the engine lets the same inputs give other frames."""


def run_fingerprint(
    model: TransformerSource,
    vae: WanVAE,
    condition: Condition,
    speech: Speech,
    features: SpeechSource,
    config: SamplingConfig,
    frames: int,
    rounding: list[bool | str],
    decoder: Any = None,
    moods: Sequence[Mood] = (),
    negative: Tensor | None = None,
) -> str:
    """A hash of everything that decides a LiveAvatar video.

    It covers every value of prompts, moods, portrait, pose, masks, sound and settings; a sample of model, LoRA, VAE,
    fast decoder and audio encoder (by ``features`` of the first block); the kind of device, and how it rounds
    (``rounding``)."""
    return fingerprint(
        FORMAT,
        condition,
        config,
        frames,
        speech.sounds,
        speech.masks,
        next(features.blocks()),
        model.identity(),
        weights_identity(vae.model.named_parameters()),
        device_identity(model.device, model.dtype),
        rounding,
        negative,
        *([] if decoder is None else [decoder.identity()]),
        *moods,
    )
