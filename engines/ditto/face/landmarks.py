"""203 or 106 landmarks of a face by networks that see the square around it.

The 203 points are of LivePortrait's network. The 106 points are of InsightFace's, whose weights are for non-commercial
research only; they merely say where the square of the 203 points lies, and any other landmarks in `crop.ANCHORS` do
that too.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..crop import LANDMARK_CROP, crop_matrix, cut, pixel_grid, transform, warp

SIDE_106 = 192
MARGIN_106 = 1.5


def input_203(picture: Tensor, landmarks: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """What the network of 203 points sees of a uint8 picture ``[H, W, 3]``: RGB ``[1, 3, 224, 224]`` in [0, 1], and the
    matrix from the picture to it. ``landmarks`` are any of `crop.ANCHORS`, those of the frame before for instance."""
    matrix = crop_matrix(landmarks, LANDMARK_CROP)
    square = cut(picture, matrix, LANDMARK_CROP.side)
    return square.permute(2, 0, 1)[None].float() / 255, matrix


def points_203(output: Tensor, matrix: np.ndarray) -> np.ndarray:
    """The network's output ``[1, 406]`` as pixels of the picture ``[203, 2]``."""
    points = output.reshape(-1, 2).double().numpy() * LANDMARK_CROP.side
    return transform(points, np.linalg.inv(matrix))


def matrix_106(box: tuple[float, float, float, float]) -> np.ndarray:
    """The matrix from the picture to the square that the network of 106 points sees, around a box (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    scale = SIDE_106 / (MARGIN_106 * max(x2 - x1, y2 - y1))
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = SIDE_106 / 2 - scale * np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    return matrix


def input_106(picture: Tensor, matrix: np.ndarray) -> Tensor:
    """What the network of 106 points sees of a uint8 picture: BGR ``[1, 3, 192, 192]`` in [0, 255]."""
    places = pixel_grid(np.linalg.inv(matrix), SIDE_106, SIDE_106)
    return warp(picture.permute(2, 0, 1)[None], places).round().flip(1)


def points_106(output: Tensor, matrix: np.ndarray) -> np.ndarray:
    """The network's output ``[1, 212]`` as pixels of the picture ``[106, 2]``."""
    points = (output.reshape(-1, 2).double().numpy() + 1) * (SIDE_106 / 2)
    return transform(points, np.linalg.inv(matrix))
