"""Faces and their landmarks by small networks with the inputs and outputs of the published ones: discs are faces."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from avatar.engines.ditto.crop import LANDMARK_CROP, CropOptions, crop_matrix, cropped_face, cut
from avatar.engines.parts.face.boxes import Box
from avatar.loaders.ditto.face import FaceGraphs
from avatar.loaders.ditto.files import FACE_FILES, FINDER, LANDMARKS, MESH

pytest.importorskip("onnxruntime")
graphs = pytest.importorskip("tools.tiny_ditto_graphs")

SKY, SKIN = (70, 90, 140), (224, 172, 130)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("graphs")
    graphs.write_graphs(made)
    return made


def paths(folder):
    return {name: next(folder.rglob(name)) for name in FACE_FILES}


@pytest.fixture(scope="module")
def faces(folder):
    return FaceGraphs(paths(folder))


def picture(height, width, *discs):
    """Discs (x, y, radius) of skin before the sky."""
    y, x = torch.meshgrid(torch.arange(height * 1.0), torch.arange(width * 1.0), indexing="ij")
    painted = torch.tensor(SKY, dtype=torch.uint8).expand(height, width, 3).clone()
    for across, down, radius in discs:
        painted[torch.hypot(x - across, y - down) <= radius] = torch.tensor(SKIN, dtype=torch.uint8)
    return painted


def middle(box):
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


@pytest.mark.parametrize(
    ("size", "disc"),
    [
        ((400, 400), (200, 180, 70)),
        ((64, 64), (32, 32, 11)),
        ((1920, 1080), (900, 500, 160)),
        ((720, 1920), (1500, 300, 130)),
        ((1000, 1000), (300, 650, 100)),
    ],
)
def test_a_face_is_found_wherever_it_is_and_however_small(faces, size, disc):
    (box,) = faces.faces(picture(*size, disc))
    assert np.hypot(*np.subtract(middle(box), disc[:2])) < disc[2] / 2
    assert 0 <= box.x1 < box.x2 <= size[1] and 0 <= box.y1 < box.y2 <= size[0]


def test_nobody_is_found_in_an_empty_picture(faces):
    assert faces.faces(picture(300, 500)) == []


def test_two_people_are_two_faces(faces):
    found = faces.faces(picture(300, 600, (150, 150, 50), (450, 150, 50)))
    assert sorted(middle(box)[0] // 300 for box in found) == [0, 1]


def test_landmarks_lie_around_the_face_and_do_not_move_when_they_are_looked_for_again(faces):
    seen = picture(400, 400, (200, 180, 70))
    (box,) = faces.faces(seen)
    points = faces.landmarks(seen, box)
    assert points.shape == (203, 2)
    assert np.abs((points.min(0) + points.max(0)) / 2 - (200, 180)).max() < 30
    assert np.abs(faces.follow(seen, points) - points).max() < 0.5


def test_a_face_that_has_left_is_noticed(faces):
    seen = picture(400, 400, (200, 180, 70))
    points = faces.landmarks(seen, faces.faces(seen)[0])
    assert faces.is_there(seen, points)
    assert not faces.is_there(picture(400, 400), points)


def test_a_box_that_a_person_gives_needs_no_finder(faces):
    points = faces.landmarks(picture(400, 400), Box(100, 100, 200, 200))
    assert np.abs((points.min(0) + points.max(0)) / 2 - 150).max() < 20


def test_eyes_are_read_in_the_square(faces):
    seen, crop = picture(400, 400, (200, 180, 70)), CropOptions()
    points = faces.landmarks(seen, faces.faces(seen)[0])
    opened, ball = faces.eyes(cut(seen, crop_matrix(points, crop)), cropped_face(crop))
    assert opened.shape == (1, 2) and ball.shape == (1, 6)
    assert (opened > 0).all() and ball.isfinite().all()


def test_the_square_has_its_landmarks_where_it_says():
    random = np.random.default_rng(0)
    points = random.uniform(100, 300, (203, 2))
    for options in (CropOptions(), LANDMARK_CROP):
        matrix = crop_matrix(points, options)
        inside = points @ matrix[:2, :2].T + matrix[:2, 2]
        box, size = cropped_face(options), inside.max(0) - inside.min(0)
        assert abs(size.max() - (box.x2 - box.x1)) < 1
        assert np.abs((inside.min(0) + inside.max(0)) / 2 - middle(box)).max() < 1


@pytest.mark.parametrize("name", FACE_FILES)
def test_another_network_in_its_place_is_named(folder, tmp_path, name):
    tree = shutil.copytree(folder, tmp_path / "tree")
    mine, other = paths(tree)[name], paths(tree)[{FINDER: MESH, MESH: FINDER, LANDMARKS: FINDER}[name]]
    shutil.copyfile(other, mine)
    with pytest.raises(ValueError, match=rf"Choose .*: .*{mine.name} (gives|does not take)"):
        FaceGraphs(paths(tree))


def test_a_missing_network_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"face_mesh\.onnx"):
        FaceGraphs(paths(folder) | {MESH: tmp_path / "face_mesh.onnx"})
