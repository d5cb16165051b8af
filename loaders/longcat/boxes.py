"""Where two people are in a picture, as boxes and as the masks that LongCat takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Box = Sequence[int]
"""Top, left, bottom and right in pixels of the picture."""
MARGIN = 0.1
"""Of the height, and of the half's width, that a box of half the picture leaves free."""


def default_boxes(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """A box in each half of a picture, the left one first."""
    half = width // 2
    top, side = MARGIN * height, MARGIN * half
    sides = ((side, half - side), (half + side, width - side))
    return [(int(top), int(left), int(height - top), int(right)) for left, right in sides]


def box_masks(boxes: Sequence[Box], height: int, width: int) -> Tensor:
    """Masks float32 [1 + boxes, height, width]: the two speakers, the background, which is all but them,
    and everybody else.

    ValueError for fewer than two boxes, or one that is empty or reaches out of the picture.
    """
    if len(boxes) < 2:
        raise ValueError(f"Give a box for each of two speakers: there are {len(boxes)}.")
    masks = torch.zeros(len(boxes), height, width)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"Draw the box {top}, {left}, {bottom}, {right} inside of the picture of {width}x{height}."
            )
        mask[top:bottom, left:right] = 1
    return with_background(masks)


def with_background(masks: Tensor) -> Tensor:
    """Masks of two speakers and of everybody else [n, H, W] as the model takes them, [1 + n, H, W]: the background, all
    but the two speakers, stands third."""
    marked = (masks > 0).float()
    background = 1 - marked[:2].amax(0, keepdim=True)
    return torch.cat((marked[:2], background, marked[2:]))
