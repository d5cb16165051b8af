"""Face boxes, finders and crops."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from avatar.engines.parts.face.boxes import (
    Box,
    FaceNotFoundError,
    FaceTracker,
    HaarFinder,
    YuNetFinder,
    centre_square,
    check_boxes,
    choose_face,
    head_square,
    mask_boxes,
)


def test_an_empty_box_is_named():
    boxes = torch.tensor([[0, 0, 10, 10], [5, 5, 5, 9]])
    with pytest.raises(FaceNotFoundError, match="frame 7") as error:
        check_boxes(boxes, ["frame 6", "frame 7"])
    assert error.value.index == 1


FACES = [Box(0, 40, 30, 70), Box(40, 45, 60, 65), Box(80, 0, 96, 16)]


@pytest.mark.parametrize(
    ("who", "chosen"), [("largest", 0), ("most central", 1), ("leftmost", 0), ("rightmost", 2)]
)
def test_one_of_several_faces(who, chosen):
    assert choose_face(FACES[::-1], who, 100, 100) == FACES[chosen]


def test_a_tracker_follows_the_face_that_moves():
    tracker = FaceTracker("rightmost")
    for shift in range(0, 60, 10):
        moving = Box(80 - shift, 0, 96 - shift, 16)
        assert tracker.follow([FACES[0], moving], 100, 100) == moving
    assert tracker.most == 2


def test_a_tracker_waits_for_its_face_and_takes_it_again():
    tracker = FaceTracker()
    assert tracker.follow(FACES, 100, 100) == FACES[0]
    assert tracker.follow([], 100, 100) is None
    assert tracker.follow(FACES[1:2], 100, 100) is None
    assert tracker.follow([Box(5, 40, 35, 70)], 100, 100) == Box(5, 40, 35, 70)


def test_a_tracker_chooses_anew_when_its_place_is_empty():
    tracker = FaceTracker()
    tracker.follow(FACES, 100, 100)
    assert tracker.follow(FACES[1:], 100, 100) == FACES[1]


@pytest.mark.parametrize("shape", [(480, 640), (2160, 3840), (64, 64)])
def test_a_head_square_lies_in_the_picture(shape):
    height, width = shape
    for face in (Box(0, 0, 20, 20), Box(width - 20, height - 30, width, height), Box(10, 10, 50, 60)):
        square = head_square(face, height, width)
        assert square.x2 - square.x1 == square.y2 - square.y1 >= 20
        assert min(square.x1, square.y1) >= 0 and square.x2 <= width and square.y2 <= height


def test_a_head_square_is_centred_a_little_above_the_face():
    square = head_square(Box(450, 450, 550, 550), 1000, 1000, scale=2.0)
    assert (square.x1 + square.x2) / 2 == 500
    assert (square.y1 + square.y2) / 2 < 500


def test_the_centre_square():
    assert centre_square(100, 300) == Box(100, 0, 200, 100)


def test_boxes_from_masks():
    masks = torch.zeros(2, 20, 30)
    masks[0, 5:8, 10:25] = 1
    assert mask_boxes(masks).tolist() == [[10, 5, 25, 8], [0, 0, 0, 0]]


def fake_opencv(monkeypatch, **names):
    module = types.SimpleNamespace(
        __version__="0", data=types.SimpleNamespace(haarcascades="/nowhere/"), INTER_AREA=3, **names
    )
    monkeypatch.setitem(sys.modules, "cv2", module)


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match="opencv-python-headless"):
        HaarFinder()


def test_an_opencv_without_haar_detectors_points_to_the_other_one(monkeypatch):
    fake_opencv(monkeypatch)
    with pytest.raises(ImportError, match="yunet"):
        HaarFinder()


def test_a_missing_detector_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="yunet"):
        YuNetFinder(tmp_path / "absent.onnx")


def test_yunet_boxes_are_scaled_back_sorted_and_clipped(monkeypatch, tmp_path):
    seen = {}

    class Detector:
        def setInputSize(self, size):
            seen["size"] = size

        def detect(self, image):
            seen["shape"] = image.shape
            return 1, np.array([[10, 10, 20, 20, *[0] * 11], [-5, 30, 100, 100, *[0] * 11]], np.float32)

    fake_opencv(
        monkeypatch,
        FaceDetectorYN=types.SimpleNamespace(create=lambda *a: Detector()),
        resize=lambda image, size, interpolation: np.zeros((size[1], size[0], 3), np.uint8),
    )
    model = tmp_path / "face.onnx"
    model.write_bytes(b"x")
    faces = YuNetFinder(model).find(np.zeros((720, 1280, 3), np.uint8))
    assert seen == {"size": (640, 360), "shape": (360, 640, 3)}
    assert faces == [Box(0, 60, 190, 260), Box(20, 20, 60, 60)]


def test_a_damaged_detector_model_is_named(tmp_path):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "FaceDetectorYN"):
        pytest.skip(f"OpenCV {cv2.__version__} has no YuNet")
    model = tmp_path / "face.onnx"
    model.write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"face\.onnx cannot be read; download") as error:
        YuNetFinder(model)
    assert len(str(error.value).splitlines()) == 1


def test_an_opencv_that_is_too_old_for_the_model_says_so(monkeypatch, tmp_path):
    fake_opencv(monkeypatch)
    (tmp_path / "face.onnx").write_bytes(b"x")
    with pytest.raises(ImportError, match=r"OpenCV 0 is too old .* install 4\.5\.4"):
        YuNetFinder(tmp_path / "face.onnx")


def test_a_profile_is_found_on_both_sides(monkeypatch, tmp_path):
    """The detector of profiles knows one side; the picture is shown to it mirrored as well."""

    class Classifier:
        def __init__(self, path):
            self.profile = "profile" in path

        def detectMultiScale(self, grey, *args, **options):
            columns = grey.any(0).nonzero()[0]
            looks_left = len(columns) and columns[0] < grey.shape[1] - 1 - columns[-1]
            return np.array([[columns[0], 30, 20, 20]]) if self.profile and looks_left else ()

    for name in ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"):
        (tmp_path / name).write_text("<opencv_storage/>")
    fake_opencv(monkeypatch, CascadeClassifier=Classifier)
    sys.modules["cv2"].data.haarcascades = str(tmp_path)
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 20:40] = 200
    finder = HaarFinder()
    assert finder.find(picture) == [Box(20, 30, 40, 50)]
    assert finder.find(np.ascontiguousarray(picture[:, ::-1])) == [Box(160, 30, 180, 50)]


def test_haar_detector_of_the_installed_opencv_finds_nothing_in_noise():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "CascadeClassifier"):
        pytest.skip(f"OpenCV {cv2.__version__} has no Haar detector")
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    assert HaarFinder().find(noise) == []
