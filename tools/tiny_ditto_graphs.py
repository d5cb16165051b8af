"""Small ONNX graphs with the inputs and outputs of Ditto's speech and face networks, for tests; they need ``onnx``.

The finder finds discs of a warm colour, about half of the square that it looks at. The mesh and the 203 landmarks are
those of a round face that always looks ahead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import numpy as np
import onnx
from avatar.loaders.ditto.files import AUX_MODELS, FINDER, LANDMARKS, MESH, ONNX, SPEECH_FILE
from onnx import TensorProto, helper, numpy_helper

WIDTH = 1024
OPSET, IR = 17, 8
CELLS, COARSE_ANCHORS = 16, 384
FACE = 64
"""128ths of the square that a face is wide, and high."""
NEAR, FAR, WINDOW = 4.5, 7.0, 15
"""Cells around a disc's middle that are warm, and the ring around them that is not; the square that has both."""
LEAST_WARMTH, STEEPNESS = 0.1, 40.0
EYES_203, LIPS_203 = ((0, 6, 12, 18), (24, 30, 36, 42)), (48, 66)
EYE_203 = ((-0.05, 0), (0, -0.02), (0.05, 0), (0, 0.02))
EYES_478 = (
    (33, 133, (145, 144, 153), (159, 160, 158), 468),
    (263, 362, (374, 373, 380), (386, 387, 385), 473),
)
"""Outer and inner corner, lower and upper lid, iris."""
LIPS_478 = (61, 291)


def write_graphs(folder: Path) -> None:
    """Write the four networks beside a checkpoint in the published layout; they do not depend on a seed."""
    aux, others = folder / AUX_MODELS, folder / ONNX
    for place in (aux, others):
        place.mkdir(parents=True, exist_ok=True)
    write_speech(aux / SPEECH_FILE)
    write_finder(others / FINDER)
    write_mesh(others / MESH)
    write_landmarks(aux / LANDMARKS)


def write_speech(path: Path, width: int = WIDTH, name: str = "input_values") -> np.ndarray:
    """A convolution of 400 samples at every 320, with ``width`` channels; returns its weights [width, 1, 400]."""
    weight = np.random.default_rng(0).standard_normal((width, 1, 400)).astype(np.float32) / 20
    nodes = [
        helper.make_node("Unsqueeze", [name, "axis"], ["row"]),
        helper.make_node("Conv", ["row", "weight"], ["channels"], strides=[320], kernel_shape=[400]),
        helper.make_node("Transpose", ["channels"], ["encoding_out"], perm=[0, 2, 1]),
    ]
    constants = {"axis": np.array([1]), "weight": weight}
    _write(path, nodes, name, [1, "samples"], {"encoding_out": [1, "rows", width]}, constants)
    return weight


def write_finder(path: Path) -> None:
    """Faces at the middles of discs that are more red than blue."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    away = np.hypot(offsets[:, None], offsets[None, :])
    near, far = away <= NEAR, (away > NEAR) & (away <= FAR)
    disc = (near / near.sum() - far / far.sum()).astype(np.float32)
    points = [0, 0, FACE, FACE, -13, -11, 13, -11, 0, 3, 0, 16, -26, -6, 26, -6]
    constants = {
        "warm": np.array([0.5, 0, -0.5], np.float32).reshape(1, 3, 1, 1),
        "disc": disc[None, None],
        "huge": np.float32(100),
        "least": np.float32(LEAST_WARMTH),
        "steep": np.float32(STEEPNESS),
        "column": np.array([1, CELLS * CELLS, 1]),
        "both": np.array([1, 2 * CELLS * CELLS, 1]),
        "second": np.full((1, CELLS * CELLS, 1), -100, np.float32),
        "coarse": np.full((1, COARSE_ANCHORS, 1), -100, np.float32),
        "rows": np.tile(np.array(points, np.float32), (1, 2 * CELLS * CELLS + COARSE_ANCHORS, 1)),
        "zero": np.float32(0),
    }
    half = WINDOW // 2
    nodes = [
        helper.make_node("Transpose", ["input"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "warm"], ["warmth"]),
        helper.make_node("AveragePool", ["warmth"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "disc"], ["found"], pads=[half] * 4),
        helper.make_node("MaxPool", ["found"], ["best"], kernel_shape=[9, 9], strides=[1, 1], pads=[4] * 4),
        helper.make_node("Sub", ["found", "best"], ["behind"]),
        helper.make_node("Mul", ["behind", "huge"], ["far"]),
        helper.make_node("Sub", ["found", "least"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["sure"]),
        helper.make_node("Add", ["sure", "far"], ["peaks"]),
        helper.make_node("Reshape", ["peaks", "column"], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["pairs"], axis=2),
        helper.make_node("Reshape", ["pairs", "both"], ["fine"]),
        helper.make_node("Concat", ["fine", "coarse"], ["classificators"], axis=1),
        helper.make_node("Mul", ["classificators", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["regressors"]),
    ]
    outputs = {"regressors": [1, 896, 16], "classificators": [1, 896, 1]}
    _write(path, nodes, "input", [1, 128, 128, 3], outputs, constants)


def write_mesh(path: Path) -> None:
    """The face of `mesh_points`, wherever it looks."""
    points = np.concatenate([mesh_points(), np.zeros((478, 1))], 1) * 256
    _write_constant(path, [1, 256, 256, 3], {"Identity": points.reshape(1, 1, 1, -1)})


def write_landmarks(path: Path) -> None:
    """The face of `points_203`, wherever it looks, behind two outputs that LivePortrait's file has as well."""
    outputs = {"gaze": np.zeros((1, 2)), "lips": np.zeros((1, 2)), "points": points_203().reshape(1, -1)}
    _write_constant(path, [1, 3, 224, 224], outputs)


def points_203() -> np.ndarray:
    """Landmarks [203, 2] of a round face in the square of its network, which that square is laid around again."""
    points = _round_face(203, 0.5, 0.6, 1 / 3)
    for middle, places in zip(((0.39, 0.52), (0.61, 0.52)), EYES_203, strict=True):
        points[list(places)] = middle + np.array(EYE_203)
    points[list(LIPS_203)] = (0.42, 0.76), (0.58, 0.76)
    return points


def mesh_points() -> np.ndarray:
    """The mesh's points [478, 2] of the same face in the mesh's square."""
    points = _round_face(478, 0.5, 0.5, 1 / 3)
    for middle, out, (outer, inner, lower, upper, iris) in zip((0.4, 0.6), (-1, 1), EYES_478, strict=True):
        points[outer], points[inner] = (middle + 0.05 * out, 0.42), (middle - 0.05 * out, 0.42)
        points[list(lower)], points[list(upper)] = (middle, 0.435), (middle, 0.405)
        points[iris] = middle, 0.42
    points[list(LIPS_478)] = (0.42, 0.66), (0.58, 0.66)
    return points


def _round_face(count: int, x: float, y: float, radius: float) -> np.ndarray:
    turns = np.arange(count) * 2 * math.pi / count
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], 1)


def _write_constant(path: Path, shape: Sequence[int], values: dict[str, np.ndarray]) -> None:
    """A graph that gives the same values whatever it is given, to which a part of nothing of its input is added."""
    nodes, constants = [], {"zero": np.float32(0)}
    nodes.append(helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    for name, value in values.items():
        constants[f"{name} of all"] = value.astype(np.float32)
        nodes.append(helper.make_node("Add", [f"{name} of all", "nothing"], [name]))
    _write(path, nodes, "input", shape, {name: value.shape for name, value in values.items()}, constants)


def _write(
    path: Path,
    nodes: list[Any],
    name: str,
    shape: Sequence[int | str],
    outputs: dict[str, Sequence[int | str]],
    constants: dict[str, np.ndarray],
) -> None:
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(key, kind, size) for key, size in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.save(model, str(path))
