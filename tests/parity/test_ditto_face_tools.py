"""Arithmetic around the networks that find a face's landmarks, against the recorded reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar.engines.ditto.face.landmarks import points_203
from avatar.engines.ditto.face.mesh import MeshSquare, anchors, close_faces

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, drawn, fixture, thinned
from tests.parity.insightface import (
    STRIDES,
    finder_input,
    finder_scale,
    found_faces,
    input_106,
    matrix_106,
    points_106,
)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def faces():
    fixture("11")
    boxes = drawn("11/blaze_box", (1, 896, 16), 10)
    boxes[..., 2:4] = boxes[..., 2:4].abs() + 25
    return close_faces(boxes, drawn("11/blaze_score", (1, 896, 1), 2, -4.2))


def picture():
    """The picture of the set's crops."""
    return fx.picture(*fixture("10")[1]["picture"]["value"])


def near_picture(actual, expected, reach):
    """OpenCV, which the reference uses, interpolates with weights of 1/32 pixel; ``reach`` is that of the values."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().mean() < 0.25 / 255 * reach


def test_found_faces():
    t, _ = fixture("11")
    cells = [2 * (512 // stride) ** 2 for stride in STRIDES]
    scores = [
        (drawn(f"11/score{k}", (n, 1)).double() * 0.13 + 0.05).clamp(0, 1).float()
        for k, n in enumerate(cells)
    ]
    boxes = [drawn(f"11/box{k}", (n, 4), 1, 3).abs() for k, n in enumerate(cells)]
    points = [drawn(f"11/kps{k}", (n, 10)) for k, n in enumerate(cells)]
    found, marks = found_faces(scores, boxes, points, finder_scale(*picture().shape[:2]))
    check(found, "11", "finder_boxes", t)
    check(marks, "11", "finder_points", t)


def test_finder_sees_blue_first():
    t, _ = fixture("11")
    near_picture(thinned(finder_input(picture()), t["finder_blob"]), t["finder_blob"], 2)


def test_anchors():
    check(anchors(), "11", "short_range_anchors")


def test_faces_close_by():
    found = faces()
    check(
        torch.cat([found.boxes, found.points.flatten(1), found.scores[:, None]], 1),
        "11",
        "short_range_faces",
    )


def test_mesh():
    t, _ = fixture("11")
    side = 512
    square = MeshSquare.around(faces(), 0, side)
    check(square.points(drawn("11/mesh", (1, 1, 1, 1434), 60, 128)), "11", "mesh_points", t)
    seen = square.input(fx.picture(side, side))
    near_picture(thinned(seen, t["mesh_input"]), t["mesh_input"], 1)


def test_203_points():
    t, _ = fixture("11")
    matrix = np.linalg.inv(t["points203_matrix"].double().numpy())
    points = points_203(drawn("11/lm203", (1, 406), 0.15, 0.5), matrix)
    check(torch.from_numpy(points).float(), "11", "points203", t)


def test_106_points():
    t, _ = fixture("11")
    matrix = matrix_106(t["points106_box"].tolist())
    points = points_106(drawn("11/lm106", (1, 212), 0.4), matrix)
    check(torch.from_numpy(points).float(), "11", "points106", t)


def test_106_points_see_blue_first():
    t, _ = fixture("11")
    seen = input_106(picture(), matrix_106(t["points106_box"].tolist()))
    near_picture(thinned(seen, t["points106_blob"]), t["points106_blob"], 255)
