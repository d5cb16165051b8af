"""The square around a head that the networks see: found from landmarks, cut out of the picture.

A matrix is ``[3, 3]``, float64, and takes pixels (x, y, 1) of the picture to pixels of the square, or back. Landmarks
are pixels ``[n, 2]``; which of them are eyes and lips follows from their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..parts.face.boxes import Box

SIDE = 512
LEAST_DISTANCE = 1e-3  # pixels between eyes and lips, below which the head is taken to be upright


class Anchors(NamedTuple):
    """Which landmarks make the centres of both eyes, and of the lips."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    lips: tuple[int, ...]


ANCHORS = {
    5: Anchors((0,), (1,), (3, 4)),
    9: Anchors((2, 3), (0, 1), (5, 6)),
    68: Anchors((36, 39), (42, 45), (48, 54)),
    101: Anchors((39, 42, 45, 48), (51, 54, 57, 60), (75, 81)),
    106: Anchors((33, 35, 40, 39), (87, 89, 94, 93), (52, 61)),
    203: Anchors((0, 6, 12, 18), (24, 30, 36, 42), (48, 66)),
    478: Anchors((33, 159, 133, 145), (362, 386, 263, 374), (61, 291)),
}


@dataclass(frozen=True)
class CropOptions:
    """How a square is laid around landmarks.

    Attributes:
        side: pixels of the square.
        scale: the square's side, by the larger side of the box around the landmarks.
        rise: how far the square lies below the box's middle, in parts of its side; negative: above.
        rotate: whether the square turns with the head.
    """

    side: int = SIDE
    scale: float = 2.3
    rise: float = -0.125
    rotate: bool = True


LANDMARK_CROP = CropOptions(side=224, scale=1.5, rise=-0.1)
"""The square that a network of 203 landmarks looks at."""


def crop_matrix(landmarks: np.ndarray, options: CropOptions) -> np.ndarray:
    """The matrix from the picture to the square around landmarks ``[n, 2]``.

    ValueError for a number of landmarks whose meaning is not known, and for landmarks that are all at one place.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    down = _down(points)
    right = np.array([down[1], -down[0]])
    middle = points.mean(0)
    turned = (points - middle) @ np.stack([right, down], 1)
    low, high = turned.min(0), turned.max(0)
    size = (high - low).max() * options.scale
    if not size > 0:
        raise ValueError(
            "Use a picture in which the face is larger: all landmarks of this one are at one place."
        )
    x, y = (low + high) / 2
    centre = middle + right * x + down * (y + size * options.rise)
    cosine, sine = (right[0], right[1]) if options.rotate else (1.0, 0.0)
    turn = np.array([[cosine, sine], [-sine, cosine]]) * (options.side / size)
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = options.side / 2 - turn @ centre
    return matrix


def cropped_face(options: CropOptions) -> Box:
    """Where the box around the landmarks lies in the square that `crop_matrix` lays around them."""
    x, y = options.side / 2, options.side * (0.5 - options.rise)
    half = options.side / options.scale / 2
    return Box(round(x - half), round(y - half), round(x + half), round(y + half))


def _down(points: np.ndarray) -> np.ndarray:
    """The direction from the eyes to the lips, of length 1."""
    count = 101 if len(points) > 101 and len(points) not in ANCHORS else len(points)
    if count not in ANCHORS:
        raise ValueError(
            f"Use {', '.join(map(str, ANCHORS))} landmarks of a face: what {len(points)} mean is not known."
        )
    left, right, lips = (points[list(places)].mean(0) for places in ANCHORS[count])
    way = lips - (left + right) / 2
    length = math.hypot(*way)
    return way / length if length >= LEAST_DISTANCE else np.array([0.0, 1.0])


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``[n, 2]`` where a matrix takes them."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def warp(pictures: Tensor, grid: Tensor) -> Tensor:
    """Pictures ``[n, C, h, w]`` read at pixels ``[H, W, 2]`` (x, y): float32 ``[n, C, H, W]``, bilinear, 0 outside."""
    return look_up(pictures, unit_grid(grid, *pictures.shape[-2:]))


def unit_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Pixels ``[H, W, 2]`` (x, y) of pictures of a size, in units where [-1, 1] spans the picture."""
    x, y = grid.unbind(-1)
    return torch.stack([(x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1], -1)


def look_up(pictures: Tensor, places: Tensor) -> Tensor:
    """Pictures ``[n, C, h, w]`` at places ``[H, W, 2]`` of `unit_grid`, as `warp` gives them."""
    return F.grid_sample(pictures.float(), places.expand(len(pictures), -1, -1, -1), align_corners=False)


def pixel_grid(matrix: np.ndarray, height: int, width: int, left: int = 0, top: int = 0) -> Tensor:
    """Where a matrix takes the pixels of a rectangle: ``[height, width, 2]``, float32, computed in float64."""
    x = torch.arange(left, left + width, dtype=torch.float64)
    y = torch.arange(top, top + height, dtype=torch.float64)
    m = torch.from_numpy(np.asarray(matrix, dtype=np.float64))
    return (x[None, :, None] * m[:2, 0] + y[:, None, None] * m[:2, 1] + m[:2, 2]).float()


def cut(picture: Tensor, matrix: np.ndarray, side: int = SIDE) -> Tensor:
    """The square ``[side, side, 3]`` of a uint8 picture ``[H, W, 3]``, uint8."""
    places = pixel_grid(np.linalg.inv(matrix), side, side).to(picture.device)
    square = warp(picture.permute(2, 0, 1)[None], places)
    return square[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def halve(square: Tensor) -> Tensor:
    """A uint8 square ``[2 n, 2 n, 3]`` at half its size: means of four pixels, rounded."""
    small = F.avg_pool2d(square.permute(2, 0, 1).float(), 2)
    return (small + 0.5).floor().to(torch.uint8).permute(1, 2, 0)


def fitting_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of a picture whose longest side is at most ``longest``, both even."""
    scale = min(1.0, longest / max(height, width))
    height, width = round(height * scale), round(width * scale)
    return height - height % 2, width - width % 2
