"""Portraits that are cut, lit and judged, on pictures whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from avatar.engines.parts.face.boxes import Box, Face, FaceNotFoundError, HaarFinder
from avatar.engines.parts.face.faults import NOSE, faults, mouth_is_open, sharpness, turn
from avatar.engines.parts.face.framing import HEAD_ABOVE, Framing, cut_out, eye_line, frame_head
from avatar.engines.parts.face.light import BRIGHTEST_FACE, DARKEST_FACE, even_light, face_brightness
from avatar.engines.parts.face.portrait import make_ready
from PIL import Image, ImageFilter

from tools.demo_media import EXAMPLE

BOX = Box(400, 400, 500, 500)


def points(tilt: float = 0.0, yaw: float = 0.0, eyes: float = 40.0) -> np.ndarray:
    """Eyes, nose and mouth of a head of BOX that is tilted and turned by so many degrees, seen from far away."""
    head = np.array([[-eyes / 2, -10], [eyes / 2, -10], [0, 10], [-15, 30], [15, 30]], float)
    head[:, 0] *= math.cos(math.radians(yaw))
    head[2, 0] += NOSE * eyes * math.sin(math.radians(yaw))
    angle = math.radians(tilt)
    turned = head @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return turned + 450


def textured(height: int = 1000, width: int = 1000) -> torch.Tensor:
    """Noise as fine as pixels [H, W, 3]."""
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (384, 704), (768, 512)])
def test_a_head_has_its_share_of_the_portrait_and_its_room_above(share, height, width):
    cut = frame_head(Face(Box(900, 900, 1000, 1000)), 2000, 2000, width / height, Framing(share, 0.1))
    head = 100 * (1 + HEAD_ABOVE)
    assert head / cut.height == pytest.approx(share)
    top = 900 - 100 * HEAD_ABOVE
    assert (top - (cut.y - cut.height / 2)) / cut.height == pytest.approx(0.1)
    assert cut.x == 950 and cut.width / cut.height == pytest.approx(width / height)


@pytest.mark.parametrize("tilt", [-30.0, 0.0, 12.0])
@pytest.mark.parametrize("box", [Box(0, 0, 60, 80), Box(900, 300, 1000, 400), Box(100, 100, 800, 790)])
def test_a_cut_lies_in_the_picture_wherever_the_face_is(tilt, box):
    angle = math.radians(tilt)
    eyes = np.array([[0, 0], [math.cos(angle), math.sin(angle)], [0, 0], [0, 0], [0, 0]])
    cut = frame_head(Face(box, eyes), 800, 1000, 1.5, Framing(0.3, 0.1))
    angle = math.radians(cut.degrees)
    for x in (-0.5, 0.5):
        for y in (-0.5, 0.5):
            across, down = x * cut.width, y * cut.height
            assert -1e-6 <= cut.x + math.cos(angle) * across - math.sin(angle) * down <= 1000 + 1e-6
            assert -1e-6 <= cut.y + math.sin(angle) * across + math.cos(angle) * down <= 800 + 1e-6


@pytest.mark.parametrize("tilt", [-20.0, 7.0, 40.0])
def test_eyes_become_level(tilt):
    picture = torch.zeros(1000, 1000, 3, dtype=torch.uint8)
    face = Face(BOX, points(tilt))
    for colour, (x, y) in enumerate(face.points[:2].round().astype(int)):
        picture[y - 2 : y + 3, x - 2 : x + 3, colour] = 255
    cut = frame_head(face, 1000, 1000, 1.0, Framing(0.5, 0.1))
    shown = cut_out(picture, cut, 540, 540).float()
    places = [(shown[..., colour] > 100).nonzero().float().mean(0) for colour in (0, 1)]
    assert cut.degrees == pytest.approx(tilt)
    assert abs(places[0][0] - places[1][0]) < 2 and places[1][1] - places[0][1] == pytest.approx(80, abs=3)


def test_eyes_stay_as_they_are_where_that_is_asked_for_or_the_line_is_too_steep():
    assert frame_head(Face(BOX, points(20)), 1000, 1000, 1.0, Framing(level=False)).degrees == 0
    assert frame_head(Face(BOX, points(60)), 1000, 1000, 1.0, Framing()).degrees == 0
    assert eye_line(Face(BOX)) == 0


def test_an_upright_cut_of_the_whole_picture_is_the_picture():
    picture = (textured(64, 64) * 255).byte()
    whole = frame_head(Face(Box(0, 0, 64, 64)), 64, 64, 1.0, Framing(0.25, 0.0))
    assert torch.equal(cut_out(picture, whole, 64, 64), picture)


def test_a_colour_cast_is_removed_as_far_as_it_is_asked_for():
    grey = textured().mean(-1, keepdim=True).expand(-1, -1, 3)
    cast = torch.tensor([1.1, 1.0, 0.85])
    assert torch.allclose(
        even_light(grey * cast, BOX, 1.0).mean((0, 1)), grey.mean() * cast.mean(), atol=1e-3
    )
    half = even_light(grey * cast, BOX, 0.5).mean((0, 1))
    assert half[0] / half[2] == pytest.approx((1.1 / 0.85) ** 0.5, rel=1e-3)
    assert torch.equal(even_light(grey * cast, BOX, 0.0), grey * cast)


@pytest.mark.parametrize(("value", "wanted"), [(0.15, DARKEST_FACE), (0.8, BRIGHTEST_FACE), (0.4, 0.4)])
def test_a_face_that_is_too_dark_or_bright_comes_to_the_nearest_good_brightness(value, wanted):
    picture = torch.full((1000, 1000, 3), value)
    assert face_brightness(even_light(picture, BOX, 1.0), BOX) == pytest.approx(wanted, abs=1e-4)


def test_a_black_picture_stays_numbers():
    assert even_light(torch.zeros(1000, 1000, 3), BOX, 1.0).isfinite().all()


@pytest.mark.parametrize("yaw", [0.0, 20.0, -45.0, 60.0])
@pytest.mark.parametrize("tilt", [0.0, 25.0])
def test_a_turned_head_is_known_by_its_nose(yaw, tilt):
    assert turn(Face(BOX, points(tilt, yaw))) == pytest.approx(abs(yaw), abs=0.5)


def with_mouth(skin: float = 0.6, chin: float = 0.6, hole: tuple[int, int] = (475, 488)) -> torch.Tensor:
    picture = torch.full((1000, 1000, 3), skin)
    picture[hole[0] : hole[1], 435:465] = 0.1
    picture[hole[1] : 500, 400:500] = chin
    return picture


def test_a_hole_above_a_light_chin_is_an_open_mouth_and_a_beard_or_lips_are_none():
    assert mouth_is_open(with_mouth(), BOX)
    assert not mouth_is_open(with_mouth(chin=0.1), BOX)
    assert not mouth_is_open(with_mouth(hole=(478, 479)), BOX)


def test_every_fault_has_its_sentence_and_a_good_portrait_has_none():
    good = textured()
    assert faults(good, [Face(BOX)], Face(BOX)) == []

    def only(picture=good, face=None, others=()) -> str:
        face = face or Face(BOX)
        (sentence,) = faults(picture, [face, *others], face)
        return sentence

    assert "50 pixels high" in only(face=Face(Box(400, 400, 450, 450)))
    assert "turned by about 50 degrees" in only(face=Face(BOX, points(yaw=50)))
    assert "turned far" in only(face=Face(BOX, profile=True))
    assert "dark" in only(good * 0.2)
    assert "2 faces" in only(others=[Face(Box(0, 0, 90, 90))])
    assert "closed lips" in only(with_mouth() + 0.1 * textured())
    assert faults(good, [Face(BOX), Face(Box(420, 420, 480, 480))], Face(BOX)) == [], "one face found twice"


@pytest.mark.parametrize("name", ["portrait.png", "portrait_2.png", "portrait_3.png"])
def test_the_shipped_portraits_are_fine_until_they_are_blurred(name):
    drawn = Image.open(EXAMPLE / name).convert("RGB")
    face = Face(Box(48, 54, 212, 219))
    sharp = torch.from_numpy(np.array(drawn)).float() / 255
    blurred = torch.from_numpy(np.array(drawn.filter(ImageFilter.GaussianBlur(4)))).float() / 255
    assert faults(sharp, [face], face) == []
    assert faults(blurred, [face], face) == ["Use a sharper picture: the face is blurred."]
    assert sharpness(sharp, face.box) > 20 * sharpness(blurred, face.box)


def test_a_portrait_is_made_ready_and_says_that_it_was_enlarged():
    made = make_ready(textured(), [Face(BOX)], "largest", Framing(0.5), 512, 640, 0.5)
    assert made.picture.shape == (512, 640, 3) and 0 <= made.picture.min() <= made.picture.max() <= 1
    assert made.words == ["Put an upscale model before this node: the head was enlarged 1.9 times."]
    tilted = make_ready(textured(), [Face(BOX, points(50))], "largest", Framing(0.27), 512, 512, 0.5)
    assert tilted.words == ["Switch level on, or turn the picture: the head is tilted by 50 degrees."]
    with pytest.raises(FaceNotFoundError, match="paint a mask over it"):
        make_ready(textured(), [], "largest", Framing(), 512, 512, 0.5)


def test_opencv_finds_the_shipped_portrait_and_it_is_cut_to_the_head():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "CascadeClassifier"):
        pytest.skip(f"OpenCV {cv2.__version__} has no Haar detector")
    picture = torch.from_numpy(np.array(Image.open(EXAMPLE / "portrait_large.png").convert("RGB")))
    faces = HaarFinder().look(picture.numpy())
    assert len(faces) == 1 and faces[0].points is None and not faces[0].profile
    made = make_ready(picture.float() / 255, faces, "largest", Framing(0.6, 0.1), 256, 256, 0.5)
    assert [word for word in made.words if "enlarged" not in word] == []
