"""Faces of any picture by the finder for faces close by (`mesh`), which looks at squares of it, large ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...parts.face.boxes import SMALLEST_FACE, Box
from .mesh import FINDER_SIDE, MARGIN, CloseFaces, MeshSquare, finder_input

Find = Callable[[Tensor], CloseFaces]
"""The finder's faces in its input ``[1, 128, 128, 3]``."""
FINEST = 2
"""The smallest squares that are searched, by the shorter side of the picture. The finder sees faces of about a tenth of
its square."""
SAME = 0.3
"""Part of the smaller of two boxes that both have, from which on they are one face."""
LARGEST = 512
"""Side of a square from which on it is reduced before the finder, which skips pixels, is shown it."""
AROUND = 2.0
"""The square around a face in which it is looked at again, by the face's longer side."""


def faces_of(picture: Tensor, find: Find) -> list[Box]:
    """Faces of a uint8 picture ``[H, W, 3]``, the largest first; empty when there is none.

    It searches the whole picture, then its largest squares, then smaller ones, until some square has a face.
    """
    height, width = picture.shape[:2]
    short = min(height, width)
    sides = max(height, width), *(short // part for part in range(1, FINEST + 1))
    for side in dict.fromkeys(sides):  # a square picture is its own largest square
        found = []
        for left, top in _corners(height, width, side):
            faces = _look(_square(picture, left, top, side), find)
            for corners in (faces.boxes * (side / FINDER_SIDE)).tolist():
                x1, y1, x2, y2 = (
                    round(v + offset) for v, offset in zip(corners, 2 * (left, top), strict=True)
                )
                box = Box(max(0, x1), max(0, y1), min(width, x2), min(height, y2))
                if min(box.x2 - box.x1, box.y2 - box.y1) >= SMALLEST_FACE:
                    found.append(box)
        if found:
            return _distinct(sorted(found, key=lambda face: face.area, reverse=True))
    return []


def mesh_square(picture: Tensor, face: Box, find: Find) -> tuple[MeshSquare, bool]:
    """The square of a picture that the mesh sees of a face, in pixels, and whether the finder sees the face as well.

    Where it does not, the square is laid around the box as if the face was upright.
    """
    long = max(face.x2 - face.x1, face.y2 - face.y1)
    side = max(SMALLEST_FACE, round(long * AROUND))
    left, top = (face.x1 + face.x2 - side) // 2, (face.y1 + face.y2 - side) // 2
    faces = _look(_square(picture, left, top, side), find)
    if not len(faces):
        return MeshSquare(((face.x1 + face.x2) / 2, (face.y1 + face.y2) / 2), long * MARGIN, 0.0, 1), False
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    nearest = int(torch.linalg.vector_norm(middles - FINDER_SIDE / 2, dim=1).argmin())
    seen = MeshSquare.around(faces, nearest, side)
    return MeshSquare((seen.centre[0] + left, seen.centre[1] + top), seen.side, seen.angle, 1), True


def box_around(landmarks: np.ndarray) -> Box:
    """The box around landmarks ``[n, 2]``."""
    return Box(*(int(value) for value in (*np.floor(landmarks.min(0)), *np.ceil(landmarks.max(0)))))


def _corners(height: int, width: int, side: int) -> Iterator[tuple[int, int]]:
    """Left and top of squares that cover a picture and overlap by half; one larger than the picture begins in it."""

    def starts(length: int) -> list[int]:
        last = max(0, length - side)
        steps = -(-2 * last // side)
        return [round(last * step / steps) for step in range(steps + 1)] if steps else [0]

    return ((left, top) for top in starts(height) for left in starts(width))


def _square(picture: Tensor, left: int, top: int, side: int) -> Tensor:
    """The part ``[side, side, 3]`` of a picture, black where it lies outside."""
    part = picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    above, before = max(0, -top), max(0, -left)
    padding = (0, 0, before, side - before - part.shape[1], above, side - above - part.shape[0])
    return F.pad(part, padding) if any(padding) else part


def _look(square: Tensor, find: Find) -> CloseFaces:
    """The finder's faces in a uint8 square, of which it is shown a copy without the finest details."""
    if len(square) > LARGEST:
        pixels = square.permute(2, 0, 1)[None].float()
        small = F.interpolate(
            pixels, (LARGEST, LARGEST), mode="bilinear", antialias=True, align_corners=False
        )
        square = small[0].round().to(torch.uint8).permute(1, 2, 0)
    return find(finder_input(square))


def _distinct(faces: list[Box]) -> list[Box]:
    """The boxes, the largest first, without those that a larger one has for the most part."""
    kept: list[Box] = []
    for face in faces:
        if all(face.common(other) <= SAME * face.area for other in kept):
            kept.append(face)
    return kept
