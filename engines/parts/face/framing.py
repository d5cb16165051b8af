"""The part of a picture around a head: as large as wanted, with room above it, and with level eyes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .boxes import Face

HEAD_ABOVE = 0.35
"""By this part of its face box a head reaches higher than the box: forehead and hair."""
LEVEL, STEEPEST = 1.0, 45.0
"""Degrees between which eyes that are not level are made so; a steeper line is a mistake of the finder, or is meant."""


@dataclass(frozen=True)
class Framing:
    """The place of a head in its picture.

    Attributes:
        share: height of the head, from chin to hair, in parts of the picture's height.
        headroom: what is left above it, in the same parts.
        level: whether the picture turns so that the eyes are level.
    """

    share: float = 0.4
    headroom: float = 0.12
    level: bool = True


class Cut(NamedTuple):
    """A rectangle in a picture: its middle and its sides in pixels, turned clockwise by ``degrees``."""

    x: float
    y: float
    width: float
    height: float
    degrees: float = 0.0


def eye_line(face: Face) -> float:
    """Degrees by which the line through both eyes falls to the right; 0 where nobody knows."""
    if face.points is None:
        return 0.0
    across, down = face.points[1] - face.points[0]
    return math.degrees(math.atan2(down, across))


def frame_head(face: Face, height: int, width: int, aspect: float, framing: Framing) -> Cut:
    """The cut around a face of a picture of ``height`` x ``width``, ``aspect`` times as wide as high.

    It lies in the picture: it is moved for that, and made smaller where the picture is too small.
    """
    tilt = eye_line(face)
    degrees = tilt if framing.level and LEVEL <= abs(tilt) <= STEEPEST else 0.0
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    box = face.box
    side = box.y2 - box.y1
    high = side * (1 + HEAD_ABOVE) / framing.share
    # Half of the upright box around the turned rectangle, per pixel of its height.
    reach_x = (aspect * cosine + abs(sine)) / 2
    reach_y = (aspect * abs(sine) + cosine) / 2
    high = min(high, width / 2 / reach_x, height / 2 / reach_y)
    down = high / 2 - framing.headroom * high - (0.5 + HEAD_ABOVE) * side  # from the face to the cut's middle
    x = (box.x1 + box.x2) / 2 - sine * down
    y = (box.y1 + box.y2) / 2 + cosine * down
    x = min(max(x, reach_x * high), width - reach_x * high)
    y = min(max(y, reach_y * high), height - reach_y * high)
    return Cut(x, y, high * aspect, high, degrees)


def cut_out(picture: Tensor, cut: Cut, height: int, width: int) -> Tensor:
    """What a cut shows of a uint8 picture ``[H, W, 3]``, as uint8 ``[height, width, 3]``."""
    source = Image.fromarray(picture.numpy())
    if cut.degrees:
        size = max(1, round(cut.width)), max(1, round(cut.height))
        across, down = cut.width / size[0], cut.height / size[1]
        sine, cosine = math.sin(math.radians(cut.degrees)), math.cos(math.radians(cut.degrees))
        matrix = (
            *(cosine * across, -sine * down, cut.x - cosine * cut.width / 2 + sine * cut.height / 2),
            *(sine * across, cosine * down, cut.y - sine * cut.width / 2 - cosine * cut.height / 2),
        )
        source = source.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        box = (0, 0, *size)
    else:
        box = _inside(cut, source.size)
    shown = source.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(shown))


def _inside(cut: Cut, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The edges of an upright cut, without what rounding has put outside of a picture of ``size``."""
    left, top = max(0.0, cut.x - cut.width / 2), max(0.0, cut.y - cut.height / 2)
    right, bottom = min(cut.x + cut.width / 2, size[0]), min(cut.y + cut.height / 2, size[1])
    return left, top, float(right), float(bottom)
