"""A video's prompt, portrait, size and past inside ComfyUI's CONDITIONING.

The portrait has the name that the host's own nodes use, and is raw as the host's VAE gives it; the rest has names of
LongCat's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...media.portrait import resample_fps
from ..liveavatar.conditioning import (
    LATENT_CHANNELS,
    REFERENCE,
    Conditioning,
    single_prompt,
    with_values,
)

if TYPE_CHECKING:
    from ...engines.parts.wan.vae import WanVAE

SIZE, PAST, PAST_FPS = "longcat_size", "longcat_past", "longcat_past_fps"
PAST_SECONDS = 3.0
"""How much of a video's end is kept to go on from: enough for the largest overlap, 45 frames at 16 a second."""


@dataclass(frozen=True)
class Condition:
    """What the sampler takes from a CONDITIONING.

    Attributes:
        context: states of the prompt [tokens, text width].
        size: height and width of the video in pixels.
        portrait: raw latent [1, 16, 1, h, w]; None without one.
        past: the end of a video, uint8 [frames, H, W, 3], of ``past_fps`` frames per second; None without one.
    """

    context: Tensor
    size: tuple[int, int]
    portrait: Tensor | None = None
    past: Tensor | None = None
    past_fps: float = 0.0

    def last_frames(self, fps: float) -> Tensor | None:
        """The end of the past in ``fps`` frames per second, uint8 [frames, H, W, 3]; its last frame is the past's."""
        if self.past is None:
            return None
        chosen = resample_fps(len(self.past), self.past_fps, fps)
        shift = len(self.past) - 1 - chosen[-1]
        return self.past[[index + shift for index in chosen]]


def with_size(positive: Conditioning, height: int, width: int) -> Conditioning:
    """The prompt for a video of this size that is made from text alone."""
    return with_values(positive, {SIZE: (height, width)})


def with_portrait(
    positive: Conditioning, vae: WanVAE, latent: Tensor, height: int, width: int
) -> Conditioning:
    """The prompt with a portrait's normalised latent [1, 16, 1, h, w]."""
    return with_values(positive, {REFERENCE: [vae.denormalise(latent).cpu()], SIZE: (height, width)})


def with_past(positive: Conditioning, frames: Tensor, fps: float) -> Conditioning:
    """The prompt with the end of a video, uint8 [frames, H, W, 3], to go on from."""
    return with_values(positive, {PAST: frames, PAST_FPS: fps, SIZE: tuple(frames.shape[1:3])})


def size_of(positive: Conditioning) -> tuple[int, int] | None:
    """Height and width of the video, if a prompt says them."""
    return positive[0][1].get(SIZE) if positive else None


def read(positive: Conditioning) -> Condition:
    """The sampler's part of a CONDITIONING; ValueError, saying which node is missing, when it is not there."""
    context, values = single_prompt(positive)
    size = values.get(SIZE)
    if size is None:
        raise ValueError("Connect the prompt through LongCat Reference Image, which sets the video's size.")
    portrait = values.get(REFERENCE)
    return Condition(
        context,
        tuple(size),
        _checked(portrait[-1], size) if portrait else None,
        values.get(PAST),
        values.get(PAST_FPS, 0.0),
    )


def _checked(latent: Any, size: tuple[int, int]) -> Tensor:
    shape, wanted = list(getattr(latent, "shape", ())), [1, LATENT_CHANNELS, 1, size[0] // 8, size[1] // 8]
    if shape != wanted:
        raise ValueError(
            f"Connect the prompt through LongCat Reference Image: its portrait is {shape or type(latent).__name__}, "
            f"not {wanted}."
        )
    if not latent.isfinite().all():
        raise ValueError(
            "Encode the portrait anew with another VAE or precision: it holds NaN or infinite values."
        )
    return latent
