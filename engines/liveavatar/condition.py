"""Latents that condition the video: reference image, motion history and pose video."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import BLOCK_LATENTS, MOTION_FRAMES

if TYPE_CHECKING:
    from ..parts.wan.vae import WanVAE

PRE_ROLL_FRAMES = 3
"""Frames at the start of the first block that are dropped, since the decoder has not settled there."""
PRIME_LATENTS = 7
"""Latents from the start of the motion history that the streaming decoder sees before the first block."""
POSE_CLIP_FRAMES = 48
SETTLED_FRAMES = 365


def encode_reference(vae: WanVAE, image: Tensor, settled: bool = False) -> tuple[Tensor, Tensor]:
    """Normalised latents of a portrait and of a history in which it stood still.

    The reference implementation prepares the two in different ways, depending on how it runs. Default: as in
    its streaming (multi-GPU) path, the image alone and 73 still frames. ``settled``: as in its single-GPU path,
    the second latent of 5 still frames and a history of 365.

    Args:
        image: pixels [1, 3, 1, H, W] in [-1, 1].

    Returns:
        reference [1, 16, 1, h, w] and motion [1, 16, 19 or 92, h, w].
    """
    if settled:
        return vae.encode_still(image, 5)[:, :, 1:], vae.encode_still(image, SETTLED_FRAMES)
    return vae.encode(image), vae.encode_still(image, MOTION_FRAMES)


def encode_pose(vae: WanVAE, frames: Tensor, check_interrupt: Callable[[], None] = lambda: None) -> Tensor:
    """Normalised latents of a pose video: [1, 16, latents, h, w], 3 for every block.

    The first frame is held during the pre-roll, the last one to the end of its clip. Clips of 48 frames are
    encoded one by one, each behind a repetition of its first frame whose latent is dropped, as in training.

    Args:
        frames: pixels [1, 3, F, H, W] in [-1, 1] at 25 per second.
        check_interrupt: called before each clip; raises to stop.
    """
    total = frames.shape[2] + PRE_ROLL_FRAMES
    latents = []
    for start in range(0, total, POSE_CLIP_FRAMES):
        check_interrupt()
        indices = torch.arange(start - 1, start + POSE_CLIP_FRAMES)
        indices[0] = start
        indices = (indices - PRE_ROLL_FRAMES).clamp(0, frames.shape[2] - 1)
        latents.append(vae.encode(frames[:, :, indices])[:, :, 1:])
    return torch.cat(latents, dim=2)


def pose_block(pose: Tensor, block: int) -> Tensor:
    """The pose latents of a block [1, 16, 3, h, w]; after the pose video's end its last pose is held."""
    first = block * BLOCK_LATENTS
    indices = torch.arange(first, first + BLOCK_LATENTS).clamp(max=pose.shape[2] - 1)
    return pose[:, :, indices]
