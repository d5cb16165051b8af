"""A colour or a picture behind the person of a stream, block by block."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

HEX = re.compile(r"#?([0-9a-fA-F]{6})")

Matte = Callable[[torch.Tensor, int], torch.Tensor]
"""Where the person is, 0 to 1 [F, H, W], in frames uint8 [F, H, W, 3], the first of which has a number."""


def colour_of(text: str) -> torch.Tensor:
    """The colour [3] from 0 to 1 of a text such as #1a2b3c; ValueError for another."""
    found = HEX.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"Write the colour as # and six digits, as in #00b140: it is {text!r:.40}.")
    return torch.tensor([int(found[1][place : place + 2], 16) for place in (0, 2, 4)]) / 255


def mask_matte(masks: torch.Tensor, height: int, width: int) -> Matte:
    """The matte of a ComfyUI MASK [h, w] or [n, h, w] that is 1 where the person is, brought to height x width.

    One mask serves all frames; of several, each serves a frame, and the last one those behind it.

    Raises:
        ValueError: a mask has no pixels, NaN or another shape than the stream's.
    """
    masks = masks.reshape(-1, *masks.shape[-2:]).float().cpu()
    if 0 in masks.shape or not masks.isfinite().all():
        raise ValueError("Use a mask with pixels that are numbers: this one has none.")
    rows, columns = masks.shape[1:]
    if abs(rows * width - columns * height) > max(rows, columns, height, width):
        raise ValueError(
            f"Make the mask of the portrait that the video shows: the mask is {columns}x{rows}, the video "
            f"{width}x{height}."
        )

    def matte(frames: torch.Tensor, first: int) -> torch.Tensor:
        numbers = torch.arange(first, first + len(frames)).clamp(max=len(masks) - 1)
        chosen, places = numbers.unique(return_inverse=True)
        shown = F.interpolate(masks[chosen, None], (height, width), mode="bilinear", antialias=True)[:, 0]
        return shown.clamp(0, 1)[places]

    return matte


def model_matte(encode_image: Callable[[torch.Tensor], Any]) -> Matte:
    """The matte that a model sees in each frame; ``encode_image`` gives a picture [1, H, W, 3] its mask [1, H, W]."""

    def matte(frames: torch.Tensor, first: int) -> torch.Tensor:
        seen = [encode_image(frame[None].float() / 255).float().cpu() for frame in frames]
        return torch.cat(seen).clamp(0, 1)

    return matte


def put_behind(frames: torch.Tensor, matte: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """uint8 frames [F, H, W, 3] over a ground from 0 to 1, [3] or [H, W, 3], where the matte [F, H, W] is below 1."""
    weight = matte[..., None]
    return (frames * weight + 255 * ground * (1 - weight)).round().byte()
