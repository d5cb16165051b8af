"""Drawn people: the same seed gives the same picture, each number of a pose moves its own part, heads have no holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="needs skia-python and the libraries libEGL and libGL", exc_type=ImportError
)

from training.figures.colours import luminance
from training.figures.figure import Figure
from training.figures.mouth import lips
from training.figures.pen import STYLES
from training.figures.person import CUTS, Person, boxes, person
from training.figures.pose import LIMITS, NAMES, Pose, poses, still

SIZE = 128


def picture(who: Person, size: int = SIZE, **pose: float) -> np.ndarray:
    return Figure(who, size).frames({name: np.array([value]) for name, value in pose.items()} or still(1))[0]


def moved(who: Person, **pose: float) -> np.ndarray:
    """How much each pixel [S, S] changes with a pose, of 255 levels."""
    difference = picture(who, **pose).astype(int) - picture(who).astype(int)
    return np.abs(difference).max(-1)


def box(who: Person, part: str) -> tuple[slice, slice]:
    left, top, right, bottom = (round(edge * SIZE) for edge in boxes(who)[part])
    return slice(top, bottom), slice(left, right)


@pytest.mark.parametrize("style", STYLES)
def test_a_seed_is_a_picture(style):
    assert person(5, style) == person(5, style)
    assert np.array_equal(picture(person(5, style)), picture(person(5, style)))
    assert np.abs(picture(person(5, style)).astype(int) - picture(person(6, style))).mean() > 10


def test_a_frame_does_not_depend_on_the_frames_before_it():
    figure, motion = Figure(person(3, "soft"), SIZE), still(3)
    motion["open"], motion["yaw"] = np.array([0.0, 0.9, 0.0]), np.array([0.0, 0.3, 0.0])
    first, between, last = figure.frames(motion)
    assert np.array_equal(first, last)
    assert not np.array_equal(first, between)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_drawing_and_not_the_person(style):
    here, flat = person(12, style), person(12, "flat")
    assert replace(here, style="flat", backdrop=flat.backdrop) == flat


BARE = [replace(person(seed, "flat"), glasses="none", beard="none", cut="crop") for seed in (2, 9)]


@pytest.mark.parametrize("who", BARE, ids=lambda who: f"seed {who.seed}")
@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_pose_is_seen(who, name):
    apart = {"yaw": 0.2, "pitch": 0.2, "roll": 0.2, "teeth": 0.9, "tongue": 0.9}
    # Teeth and tongue are seen in an open mouth only.
    base = {"open": 0.3} if name in ("teeth", "tongue") else {}
    change = picture(who, **(base | {name: apart.get(name, 1.0)})).astype(int) - picture(who, **base)
    assert (np.abs(change).max(-1) > 24).sum() > (3 if name == "breath" else 8)


@pytest.mark.parametrize("who", BARE, ids=lambda who: f"seed {who.seed}")
@pytest.mark.parametrize(
    ("pose", "part"),
    [
        ({"blink": 1.0}, "eyes"),
        ({"gaze_x": 1.0}, "eyes"),
        ({"gaze_y": 1.0}, "eyes"),
        ({"wide": 1.0}, "mouth"),
        ({"smile": 0.3}, "mouth"),
    ],
)
def test_a_part_moves_alone(who, pose, part):
    change = moved(who, **pose)
    assert change[box(who, part)].max() > 40
    change[box(who, part)] = 0
    assert change.max() <= 6


@pytest.mark.parametrize("who", BARE, ids=lambda who: f"seed {who.seed}")
def test_an_opening_mouth_leaves_the_upper_face_alone(who):
    change = moved(who, open=1.0, wide=-0.5)
    bottom = round((0.5 + who.y + who.scale * who.nose_y) * SIZE) - 2
    assert change[:bottom].max() < 10
    assert change[box(who, "mouth")].max() > 100


SHAPES = {
    "closed": {"open": 0.0},
    "f": {"open": 0.1, "wide": 0.2, "teeth": 0.8},
    "s": {"open": 0.18, "wide": 0.55, "teeth": 1.0},
    "l": {"open": 0.27, "wide": 0.2, "teeth": 0.45, "tongue": 0.9},
    "ee": {"open": 0.32, "wide": 1.0, "teeth": 0.4},
    "ah": {"open": 1.0, "wide": 0.15},
    "oh": {"open": 0.7, "wide": -0.7},
    "oo": {"open": 0.3, "wide": -1.0},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [4, 7])
def test_mouth_shapes_are_told_apart(style, seed):
    who = person(seed, style)
    motion = {
        name: np.array([shape.get(name, 0.0) for shape in SHAPES.values()])
        for name in ("open", "wide", "teeth", "tongue")
    }
    left, top, right, bottom = (round(edge * 256) for edge in boxes(who)["mouth"])
    seen = Figure(who, 256).frames(motion)[:, top:bottom, left:right].astype(int)
    for i, one in enumerate(SHAPES):
        for j, other in enumerate(SHAPES):
            if i < j:
                different = (np.abs(seen[i] - seen[j]).max(-1) > 40).sum()
                assert different > 45, f"{one} looks like {other}: {different} pixels differ"


def test_lips_keep_their_order_and_join_at_the_corners():
    who = person(4)
    for opened in (0.0, 0.02, 0.3, 1.0):
        for wide in (-1.0, 0.0, 1.0):
            for smile in (-0.5, 0.0, 1.0):
                shape = lips(who, Pose(open=opened, wide=wide, smile=smile))
                rows = [shape.outer_top, shape.top, shape.bottom, shape.outer_bottom]
                heights = np.stack([row[1:-1, 1] for row in rows])
                assert (np.diff(heights, axis=0) >= -1e-9).all()
                assert shape.top[0] == pytest.approx(shape.bottom[0])


def test_shut_lids_meet_in_one_dark_line():
    """No white or iris is left between shut lids, and the line is as sharp as the open eye's edges."""
    light = [who for who in map(person, range(40)) if luminance(who.skin) > 0.75][:4]
    for one in light:
        who = replace(one, style="flat", backdrop="plain", glasses="none", cut="bald")
        left, top, right, bottom = (round(edge * 256) for edge in boxes(who)["eyes"])
        open_eye, shut = (picture(who, 256, blink=b)[top:bottom, left:right].astype(int) for b in (0.0, 1.0))
        white = min(250, int(np.array(who.skin).min() * 255) + 40)
        bright = (open_eye.min(-1) > white).sum(), (shut.min(-1) > white).sum()
        assert bright[1] == 0
        assert bright[0] > 10 or white == 250
        steps = [np.abs(np.diff(eye.sum(-1), axis=0)).max() for eye in (open_eye, shut)]
        assert steps[1] > 0.4 * steps[0]


@pytest.mark.parametrize("cut", CUTS)
def test_turned_heads_have_no_holes(cut):
    """Before a green wall no green is seen inside a head, as far as it can turn."""
    who = replace(
        person(1, "flat"), cut=cut, backdrop="plain", wall=(0.0, 1.0, 0.0), glasses="none", beard="none"
    )
    corners = [(yaw, pitch) for yaw in (-1, 0, 1) for pitch in (-1, 1)]
    motion = still(len(corners))
    motion["yaw"], motion["pitch"] = np.array(corners).T * [[LIMITS["yaw"]], [LIMITS["pitch"]]]
    for (yaw, pitch), seen in zip(corners, Figure(who, 256).frames(motion), strict=True):
        green = (seen[..., 1] > 200) & (seen[..., 0] < 60) & (seen[..., 2] < 60)
        middle = round(0.5 * 256 + (who.x + who.scale * np.sin(yaw * LIMITS["yaw"]) * 0.1) * 256)
        half = round(0.9 * who.scale * 256)
        nose = round((0.5 + who.y + who.scale * who.nose_y) * 256)
        inside = int(_enclosed(green)[:nose, middle - half : middle + half].sum())
        assert inside < 12, f"{inside} pixels of wall inside the head at yaw {yaw}, pitch {pitch}"


def _enclosed(wall: np.ndarray) -> np.ndarray:
    """Pixels of wall that the picture's edge does not reach. (A braid and a neck may enclose some, below a head.)"""
    reached = np.zeros_like(wall)
    reached[0], reached[:, 0], reached[:, -1] = wall[0], wall[:, 0], wall[:, -1]
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= wall
        if np.array_equal(grown, reached):
            return wall & ~reached
        reached = grown


def test_poses_beyond_the_drawing_are_refused():
    with pytest.raises(ValueError, match=r"Keep yaw within 0\.45"):
        poses({"yaw": np.array([0.0, 0.7])})
    with pytest.raises(ValueError, match="Leave out jaw"):
        poses({"jaw": np.zeros(2)})


def test_people_differ_and_their_numbers_stay_in_bounds():
    people = [person(seed) for seed in range(400)]
    assert {who.cut for who in people} == set(CUTS)
    assert {who.style for who in people} == set(STYLES)
    assert len({(who.cut, who.skin, who.hair, who.cloth) for who in people}) > 380
    for who in people:
        assert boxes(who)["face"][3] < 0.75
        assert who.eye_w < 0.26
        assert not (who.feminine and who.beard != "none")
