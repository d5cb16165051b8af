"""Faces, their landmarks and their eyes, by the free ones of the published networks.

MediaPipe's finder and mesh (Apache-2.0) say where a face is and what its eyes do. LivePortrait's network (MIT) gives
the 203 landmarks around which the renderer's square is laid. InsightFace's networks, which do the first in the
reference, are not needed. All are small and run on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...engines.ditto.face.eyes import MESH_POINTS, ball_vectors, openness
from ...engines.ditto.face.landmarks import input_203, points_203
from ...engines.ditto.face.mesh import FINDER_SIDE, MESH_SIDE, CloseFaces, close_faces
from ...engines.ditto.face.search import box_around, faces_of, mesh_square
from ...engines.parts.face.boxes import Box
from ..onnx.choice import AUTO, Graph, open_graph
from .files import FINDER, LANDMARKS, MESH

PASSES = 2
"""The network of 203 points looks so often: first around the mesh's points, of which it knows nothing, then around its
own, as it does from one frame of a video to the next."""


class FaceGraphs:
    """Three networks that look at faces.

    Args:
        paths: of `FINDER`, `MESH` and `LANDMARKS`.
        by: one of `onnx.choice.BACKENDS`.

    Raises:
        RuntimeError: onnxruntime is needed and missing.
        FileNotFoundError, ValueError: a file is absent, cut off or another network; the message names it.
    """

    def __init__(self, paths: Mapping[str, Path], by: str = AUTO):
        def opened(file: str, name: str, read: Callable[[Graph, Tensor], object], *size: int) -> Graph:
            def check(graph: Graph) -> None:
                read(graph, torch.zeros(1, *size))

            return open_graph(paths[file], name, "input", check, by=by)

        self._finder = opened(FINDER, "MediaPipe's face finder", _find, FINDER_SIDE, FINDER_SIDE, 3)
        self._mesh = opened(MESH, "MediaPipe's face mesh", _mesh_of, MESH_SIDE, MESH_SIDE, 3)
        self._points = opened(LANDMARKS, "LivePortrait's network of 203 landmarks", _points_of, 3, 224, 224)

    def faces(self, picture: Tensor) -> list[Box]:
        """Faces of a uint8 picture ``[H, W, 3]``, the largest first; empty when there is none."""
        return faces_of(picture, self._find)

    def landmarks(self, picture: Tensor, face: Box) -> np.ndarray:
        """203 landmarks ``[203, 2]`` of the face in a box, in pixels of a uint8 picture ``[H, W, 3]``."""
        points = self._mesh_points(picture, face)[0, :, :2].double().numpy()
        for _ in range(PASSES):
            points = self.follow(picture, points)
        return points

    def follow(self, picture: Tensor, before: np.ndarray) -> np.ndarray:
        """203 landmarks of the face whose landmarks in the frame before are given."""
        seen, matrix = input_203(picture, before)
        return points_203(_points_of(self._points, seen), matrix)

    def is_there(self, picture: Tensor, landmarks: np.ndarray) -> bool:
        """Whether the finder sees a face at landmarks."""
        return mesh_square(picture, box_around(landmarks), self._find)[1]

    def eyes(self, square: Tensor, face: Box) -> tuple[Tensor, Tensor]:
        """Openness ``[1, 2]`` and ball vectors ``[1, 6]`` of the eyes in a uint8 square, whose face is in a box."""
        points = self._mesh_points(square, face) / len(square)
        return openness(points), ball_vectors(points)

    def _mesh_points(self, picture: Tensor, face: Box) -> Tensor:
        """The mesh's points ``[1, 478, 3]`` in pixels of the picture."""
        square, _ = mesh_square(picture, face, self._find)
        return square.points(_mesh_of(self._mesh, square.input(picture)))

    def _find(self, seen: Tensor) -> CloseFaces:
        return _find(self._finder, seen)


def _find(finder: Graph, seen: Tensor) -> CloseFaces:
    if not {"regressors", "classificators"} <= set(finder.outputs):
        raise finder.other("gives no regressors and classificators")
    return close_faces(*finder(seen, "regressors", "classificators"))


def _mesh_of(mesh: Graph, seen: Tensor) -> Tensor:
    points = mesh(seen)[0]
    if points.numel() != 3 * MESH_POINTS:
        raise mesh.other(f"gives {points.numel()} numbers in place of {MESH_POINTS} points")
    return points


def _points_of(network: Graph, seen: Tensor) -> Tensor:
    points = network(seen)[-1]  # LivePortrait's own file gives two others before
    if points.numel() != 406:
        raise network.other(f"gives {points.numel()} numbers in place of 203 points")
    return points
