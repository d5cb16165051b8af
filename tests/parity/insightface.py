"""Arithmetic around InsightFace's networks, by which the reference finds a face: SCRFD, and 106 landmarks.

Their weights are for non-commercial research only, so the pack finds faces by other networks. This says that what the
reference does before the square of the 203 landmarks is understood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from avatar.engines.ditto.crop import pixel_grid, transform, warp
from torch import Tensor

SIDE = 512
STRIDES = (8, 16, 32)
ANCHORS = 2  # in each cell
LEAST_SCORE = 0.5
OVERLAP = 0.4
SIDE_106 = 192
MARGIN_106 = 1.5


def finder_scale(height: int, width: int) -> float:
    """By how much a picture is enlarged for the finder."""
    return SIDE / max(height, width)


def finder_input(picture: Tensor) -> Tensor:
    """What the finder sees of a uint8 picture ``[H, W, 3]``: BGR ``[1, 3, 512, 512]`` in [-1, 1], the rest black."""
    height, width = picture.shape[:2]
    scale = finder_scale(height, width)
    size = int(height * scale), int(width * scale)
    pixels = picture.permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, size, mode="bilinear", align_corners=False).round()
    whole = F.pad(small, (0, SIDE - size[1], 0, SIDE - size[0]))
    return (whole.flip(1) - 127.5) / 128


def found_faces(
    scores: Sequence[Tensor], boxes: Sequence[Tensor], points: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """Faces of the finder's outputs, the surest first: ``[n, 5]`` (x1, y1, x2, y2, score), and points ``[n, 5, 2]``.

    Args:
        scores, boxes, points: for each of `STRIDES` ``[m, 1]``, ``[m, 4]``, ``[m, 10]``.
        scale: see `finder_scale`; the result is in pixels of the picture.
    """
    rows, marks = [], []
    for stride, score, box, point in zip(STRIDES, scores, boxes, points, strict=True):
        sure = score[:, 0] >= LEAST_SCORE
        centre, score = _centres(stride)[sure], score[sure]
        low, high = centre - box[sure, :2] * stride, centre + box[sure, 2:] * stride
        rows.append(torch.cat([low / scale, high / scale, score], 1))
        marks.append((point[sure].unflatten(1, (5, 2)) * stride + centre[:, None]) / scale)
    faces, marked = torch.cat(rows), torch.cat(marks)
    left, kept = faces[:, 4].argsort(descending=True, stable=True), []
    while len(left):
        kept.append(left[0])
        left = left[1:][_overlap(faces[left[0]], faces[left[1:]]) <= OVERLAP]
    order = torch.stack(kept) if kept else left
    return faces[order], marked[order]


def _centres(stride: int) -> Tensor:
    """The anchors of a stride ``[m, 2]`` as (x, y)."""
    places = torch.arange(0, SIDE, stride, dtype=torch.float32)
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1).repeat_interleave(ANCHORS, 0)


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """The common area of a box with others, by the area of both; pixels at the edges count."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:4], boxes[:, 2:4])
    common = (high - low + 1).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:4] - boxes[:, :2] + 1).prod(-1) + (box[2:4] - box[:2] + 1).prod()
    return common / (areas - common)


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
