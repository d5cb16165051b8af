"""478 points of a face by two networks of MediaPipe: a finder for faces close by, and a mesh of one face.

Both see a square picture: the finder all of it at 128 x 128, the mesh the turned square around a face at 256 x 256.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..crop import pixel_grid, warp

FINDER_SIDE, MESH_SIDE = 128, 256
GRIDS = ((16, 2), (8, 6))
"""Cells on a side, and anchors in each cell."""
LEAST_SCORE = 0.5
OVERLAP = 0.3
MARGIN = 1.5
"""The square that the mesh sees, by the longer side of the face's box."""


def finder_input(square: Tensor) -> Tensor:
    """What the finder sees of a uint8 square ``[n, n, 3]``: ``[1, 128, 128, 3]`` in [-1, 1]."""
    pixels = square.permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, (FINDER_SIDE, FINDER_SIDE), mode="bilinear", align_corners=False)
    return small.permute(0, 2, 3, 1) / 127.5 - 1


def anchors() -> Tensor:
    """Where the finder looks: centres ``[896, 2]`` as (x, y) in [0, 1]."""
    parts = []
    for cells, each in GRIDS:
        middle = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        parts.append(torch.stack([x, y], -1).flatten(0, 1).repeat_interleave(each, 0))
    return torch.cat(parts)


@dataclass(frozen=True)
class CloseFaces:
    """Faces of a square picture, in the order of the surest finding of each.

    Attributes:
        boxes: (x1, y1, x2, y2) in 128ths of the square, ``[n, 4]``.
        points: six points, both eyes first, in [0, 1] ``[n, 6, 2]``.
        scores: ``[n]``.
    """

    boxes: Tensor
    points: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)


def close_faces(regressors: Tensor, classificators: Tensor) -> CloseFaces:
    """The faces of the finder's outputs ``[1, 896, 16]`` and ``[1, 896, 1]``; those that overlap become their mean."""
    scores = classificators[0, :, 0].clamp(-100, 100).sigmoid()
    found = scores >= LEAST_SCORE
    rows, scores, centres = regressors[0][found], scores[found], anchors()[found]
    middle, half = rows[:, :2] + centres * FINDER_SIDE, rows[:, 2:4] / 2
    boxes = torch.cat([middle - half, middle + half], 1)
    points = rows[:, 4:].unflatten(1, (6, 2)) / FINDER_SIDE + centres[:, None]
    values = torch.cat([boxes, points.flatten(1)], 1)
    left = scores.argsort(descending=True, stable=True)
    faces: list[tuple[Tensor, Tensor]] = []
    while len(left):
        same = _overlap(boxes[left[0]], boxes[left]) > OVERLAP
        same[0] = True
        group = left[same]
        weights = scores[group]
        faces.append(((values[group] * weights[:, None]).sum(0) / weights.sum(), weights.mean()))
        left = left[~same]
    if not faces:
        return CloseFaces(boxes[:0], points[:0], scores[:0])
    merged = torch.stack([value for value, _ in faces])
    return CloseFaces(
        merged[:, :4], merged[:, 4:].unflatten(1, (6, 2)), torch.stack([score for _, score in faces])
    )


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """The common area of a box ``[4]`` with boxes ``[n, 4]``, by the area of both."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    return common / ((box[2:] - box[:2]).prod(-1) + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - common)


@dataclass(frozen=True)
class MeshSquare:
    """The turned square around a face that the mesh sees.

    Attributes:
        centre: (x, y) in pixels.
        side: in pixels.
        angle: radians by which the face is turned.
        picture_side: pixels of the square picture that it lies in.
    """

    centre: tuple[float, float]
    side: float
    angle: float
    picture_side: int

    @classmethod
    def around(cls, faces: CloseFaces, index: int, picture_side: int) -> MeshSquare:
        """Around one of the faces of a square picture."""
        x1, y1, x2, y2 = (faces.boxes[index] * (picture_side / FINDER_SIDE)).tolist()
        (ax, ay), (bx, by) = faces.points[index, :2].tolist()
        return cls(
            ((x1 + x2) / 2, (y1 + y2) / 2),
            max(x2 - x1, y2 - y1) * MARGIN,
            math.atan2(by - ay, bx - ax),
            picture_side,
        )

    def _turn(self) -> np.ndarray:
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cosine, -sine], [sine, cosine]])

    def input(self, square: Tensor) -> Tensor:
        """What the mesh sees of a uint8 square ``[n, n, 3]``: ``[1, 256, 256, 3]`` in [0, 1]."""
        matrix = np.eye(3)
        matrix[:2, :2] = self._turn() * (self.side / MESH_SIDE)
        matrix[:2, 2] = self.centre - matrix[:2, :2] @ np.full(2, MESH_SIDE / 2)
        pixels = warp(square.permute(2, 0, 1)[None], pixel_grid(matrix, MESH_SIDE, MESH_SIDE))
        return pixels.round().permute(0, 2, 3, 1) / 255

    def points(self, mesh: Tensor) -> Tensor:
        """The mesh's output, 478 points in 256ths, as ``[1, 478, 3]`` in [0, 1] of the square picture."""
        points = mesh.reshape(1, -1, 3) / MESH_SIDE
        flat = (points[..., :2] - 0.5) @ torch.from_numpy(self._turn().T).to(points)
        flat = flat * self.side + torch.tensor(self.centre).to(points)
        return torch.cat([flat, points[..., 2:] * self.side], -1) / self.picture_side
