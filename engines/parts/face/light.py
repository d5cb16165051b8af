"""The light on a face: measured, and evened out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .boxes import Box

GREY = (0.299, 0.587, 0.114)
INNER = (0.2, 0.15, 0.8, 0.9)
"""Left, top, right and bottom of the skin, in parts of a face box."""
DARKEST_FACE, BRIGHTEST_FACE = 0.25, 0.65
"""Median brightness between which a face is left as it is: dark skin in good light is not a fault."""
MOST_GAIN = 1.5
"""Of a channel; a stronger cast is the picture's mood."""
MOST_POWER = 2.2
"""Greatest exponent of the curve that makes a face darker; one divided by it makes it brighter."""


def brightness(picture: Tensor) -> Tensor:
    """``[..., H, W]`` of colours ``[..., H, W, 3]`` from 0 to 1."""
    return picture.float() @ torch.tensor(GREY)


def part(box: Box, edges: tuple[float, float, float, float]) -> tuple[slice, slice]:
    """Rows and columns of a part of a box, whose edges are given in parts of its sides."""
    width, height = box.x2 - box.x1, box.y2 - box.y1
    left, top, right, bottom = edges
    return (
        slice(round(box.y1 + top * height), round(box.y1 + bottom * height)),
        slice(round(box.x1 + left * width), round(box.x1 + right * width)),
    )


def face_brightness(picture: Tensor, face: Box) -> float:
    """Median brightness, 0 to 1, of the face in a picture ``[H, W, 3]`` from 0 to 1."""
    return brightness(picture[part(face, INNER)]).median().item()


def even_light(picture: Tensor, face: Box, strength: float) -> Tensor:
    """A picture ``[H, W, 3]`` from 0 to 1 without its colour cast, and with the face neither too dark nor too bright.

    The cast is the mean colour of the whole picture (grey world). ``strength``: 0 changes nothing, 1 all.
    """
    if strength == 0:
        return picture
    means = picture.mean((0, 1)).clamp(min=1e-3)
    gains = (means.mean() / means).clamp(1 / MOST_GAIN, MOST_GAIN) ** strength
    picture = (picture * gains).clamp(0, 1)
    found = min(max(face_brightness(picture, face), 1e-3), 1 - 1e-3)
    wanted = min(max(found, DARKEST_FACE), BRIGHTEST_FACE)
    power = min(max(math.log(wanted) / math.log(found), 1 / MOST_POWER), MOST_POWER)
    return picture if power == 1 else picture ** (power**strength)
