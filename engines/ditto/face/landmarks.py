"""203 landmarks of a face by LivePortrait's network, which sees the square around it.

Any landmarks in `crop.ANCHORS` say where that square lies.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..crop import LANDMARK_CROP, crop_matrix, cut, transform


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
