"""How far eyes are open and where they look, from the 478 landmarks of a face mesh (MediaPipe's numbering)."""

from __future__ import annotations

import torch
from torch import Tensor

MESH_POINTS = 478
_CORNERS = ((33, 133), (263, 362))  # outer and inner, left and right
_HEIGHTS = (((145, 159), (144, 160), (153, 158)), ((374, 386), (373, 387), (380, 385)))
_IRISES = (468, 473)
_LEAST = 1e-8


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def openness(landmarks: Tensor) -> Tensor:
    """Three heights of each eye by its width, ``[n, 2]`` (left, right), of landmarks ``[n, 478, 3]``."""
    eyes = []
    for (outer, inner), heights in zip(_CORNERS, _HEIGHTS, strict=True):
        tall = sum(_length(landmarks[:, low] - landmarks[:, high]) for low, high in heights)
        eyes.append(tall / (_length(landmarks[:, outer] - landmarks[:, inner]) + _LEAST))
    return torch.stack(eyes, -1)


def ball_vectors(landmarks: Tensor) -> Tensor:
    """Where the irises are, ``[n, 6]`` (x left, x right, y left, y right, z left, z right).

    A vector is the way from the eye's middle to its iris, from which the eye's own direction is subtracted with the
    same length.
    """
    eyes = []
    for (outer, inner), iris in zip(_CORNERS, _IRISES, strict=True):
        a, b = landmarks[:, outer], landmarks[:, inner]
        way, along = landmarks[:, iris] - (a + b) / 2, a - b
        length = _length(way)[:, None]
        eyes.append(length * (way / (length + _LEAST) - along / (_length(along)[:, None] + _LEAST)))
    return torch.stack(eyes, -1).flatten(1)
