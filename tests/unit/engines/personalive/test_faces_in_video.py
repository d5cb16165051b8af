"""Driving videos with every kind of trouble: no face, several, one that turns or leaves; any size and any length."""

from __future__ import annotations

import weakref

import pytest
import torch
from avatar.engines.parts.face.boxes import Box, FaceNotFoundError, check_boxes
from avatar.engines.parts.face.keypoints import Pose, face_boxes
from avatar.engines.personalive.driving import SIZE, driving_motion
from avatar.engines.personalive.motion import Motion

POINTS = torch.rand(21, 3, generator=torch.Generator().manual_seed(1)) - 0.5


class Engine:
    """Observes as the real one does, with head poses that the frames spell out instead of networks.

    Red is how far the head has moved to the right, green how far it is turned, from 0 (not at all) to 255 (two picture
    widths, a full turn); motion tokens are the frame's blue.
    """

    def __init__(self):
        self.looked_at: list[torch.Size] = []

    def observe(self, frames, boxes=None):
        self.looked_at.append(frames.shape)
        red, green, blue = frames.float().mean((1, 2)).unbind(-1)
        zero = torch.zeros_like(red)
        pose = Pose(
            POINTS.expand(len(frames), -1, -1),
            torch.stack([zero, green / 255 * 360, zero], -1),
            torch.stack([red / 255 * 4, zero, zero], -1),
            torch.ones(len(frames), 1),
        )
        boxes = face_boxes(pose.project(), SIZE, SIZE) if boxes is None else boxes
        check_boxes(boxes, [str(i) for i in range(len(frames))])
        return Motion(pose, blue[:, None, None].expand(-1, 32, 16).clone())


def film(*colours, height=64, width=80, block=3):
    """Blocks of plain frames."""
    frames = torch.stack([torch.tensor(c, dtype=torch.uint8).expand(height, width, 3) for c in colours])
    return list(frames.split(block))


class Finder:
    """Finds a face for every bit that is set in a frame's blue."""

    PLACES = (Box(10, 10, 40, 40), Box(50, 20, 74, 44), Box(30, 30, 46, 46))

    def find(self, image):
        return [place for bit, place in enumerate(self.PLACES) if image[0, 0, 2] >> bit & 1]


def follow(colours, engine=None, **options):
    """All parts as one: motion, frame numbers, the most faces."""
    parts = list(driving_motion(engine or Engine(), film(*colours), **options))
    frames = [number for part in parts for number in part.frames]
    return Motion.concat([part.motion for part in parts]), frames, parts[-1].faces


def blue(*values):
    return [(0, 0, value) for value in values]


def tokens(motion):
    return [round(frame.mean().item()) for frame in motion.tokens]


def test_a_frame_without_a_face_stops_by_name_and_says_what_to_do():
    with pytest.raises(
        FaceNotFoundError, match=r"frame 4 of the driving video; hold or skip such frames"
    ) as error:
        follow(blue(1, 1, 1, 1, 0, 1), finder=Finder())
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("crop", ["centre", "head", "none"])
def test_missing_faces_are_held_or_skipped(crop):
    colours = blue(0, 0, 1, 3, 0, 0, 1, 0)
    motion, frames, _ = follow(colours, finder=Finder(), missing="hold", crop=crop)
    assert tokens(motion) == [1, 1, 1, 3, 3, 3, 1, 1]
    assert frames == list(range(8))
    motion, frames, _ = follow(colours, finder=Finder(), missing="skip", crop=crop)
    assert tokens(motion) == [1, 3, 1]
    assert frames == [2, 3, 6]


def test_a_video_without_any_face_is_refused():
    for missing in ("hold", "skip"):
        with pytest.raises(ValueError, match="No frame of the driving video has a face"):
            list(driving_motion(Engine(), film(*blue(0, 0, 0, 0)), finder=Finder(), missing=missing))


def test_given_boxes_must_cover_the_video():
    with pytest.raises(ValueError, match="boxes for 2 frames"):
        follow(blue(1, 1, 1), boxes=torch.tensor([[20, 10, 60, 50]] * 2))


@pytest.mark.parametrize("option", ["missing", "crop", "who"])
def test_a_choice_that_is_none_is_named(option):
    with pytest.raises(ValueError, match=f"{option} must be one of .* not 'x'"):
        follow(blue(1), **{option: "x"})


def test_a_head_needs_somebody_who_looks_for_it():
    with pytest.raises(ValueError, match="needs a face finder"):
        follow(blue(1), crop="head")


# who -> the middle of the square that is cut out of an 80x64 picture with the three faces above
@pytest.mark.parametrize(
    ("who", "left"), [("largest", 0), ("most central", 20), ("leftmost", 0), ("rightmost", 25)]
)
def test_one_of_several_faces_is_chosen_and_their_number_told(monkeypatch, who, left):
    squares = []
    cut = "avatar.engines.personalive.driving._cut"
    monkeypatch.setattr(cut, lambda frames, square: squares.append(square) or frames)
    _, _, faces = follow(blue(7, 7), finder=Finder(), crop="head", who=who)
    assert faces == 3
    assert {square.x1 for square in squares} == {left}


def test_the_face_that_is_followed_is_not_swapped_for_another():
    # the followed face (1) is gone in the third frame: the other one (2) does not take its place
    with pytest.raises(FaceNotFoundError, match="frame 2 "):
        follow(blue(3, 3, 2, 3), finder=Finder())
    _, frames, _ = follow(blue(3, 3, 2, 3), finder=Finder(), missing="skip")
    assert frames == [0, 1, 3]


def test_the_only_face_of_a_video_may_jump():
    _, frames, faces = follow(blue(1, 2, 1), finder=Finder())
    assert (frames, faces) == ([0, 1, 2], 1)


def test_a_profile_is_followed_by_the_keypoints():
    turned = [(0, green, 7) for green in (0, 32, 64, 96, 160, 192)]  # up to a full profile on both sides
    motion, frames, faces = follow(turned)
    assert frames == list(range(6)) and faces == 0
    assert (motion.pose.angles[2, 1] - 90).abs() < 1


def test_a_face_that_leaves_the_picture_is_noticed_by_the_keypoints():
    leaving = [(red, 0, 9 - i) for i, red in enumerate((0, 10, 255, 0))]  # the third is two pictures away
    with pytest.raises(FaceNotFoundError, match="frame 2 of the driving video"):
        follow(leaving)
    motion, frames, _ = follow(leaving, missing="hold")
    assert (tokens(motion), frames) == ([9, 8, 8, 6], [0, 1, 2, 3])
    motion, frames, _ = follow(leaving, missing="skip")
    assert (tokens(motion), frames) == ([9, 8, 6], [0, 1, 3])


@pytest.mark.parametrize(("height", "width"), [(2160, 3840), (3840, 2160), (64, 64), (9, 16)])
@pytest.mark.parametrize("crop", ["centre", "none"])
def test_frames_of_any_size_are_looked_at_in_one_size(height, width, crop):
    engine = Engine()
    (part,) = driving_motion(engine, film((0, 0, 5), (0, 0, 6), height=height, width=width), crop=crop)
    assert tokens(part.motion) == [5, 6]
    assert engine.looked_at == [(2, SIZE, SIZE, 3)]


def test_one_frame_is_enough():
    motion, frames, _ = follow(blue(4))
    assert (tokens(motion), frames) == ([4], [0])


def test_ten_minutes_are_read_block_by_block():
    block = torch.zeros(8, SIZE, SIZE, 3, dtype=torch.uint8)
    alive: list[weakref.ref] = []
    most = 0

    def blocks():
        nonlocal most
        for _ in range(10 * 60 * 25 // 8):
            view = block[:]  # stands for 6 MB of frames; the test is about who keeps them
            alive.append(weakref.ref(view))
            most = max(most, sum(ref() is not None for ref in alive[-20:]))
            yield view

    class Still(Engine):
        def observe(self, frames, boxes=None):
            return ONE

    count = bytes_ = 0
    for part in driving_motion(Still(), blocks()):
        count += len(part.frames)
        bytes_ += sum(tensor.nbytes for tensor in part.motion.tensors())
    assert count == 15_000
    assert most <= 3
    assert bytes_ / count <= 2400


ONE = Motion(
    Pose(torch.zeros(8, 21, 3), torch.zeros(8, 3), torch.zeros(8, 3), torch.ones(8, 1)),
    torch.zeros(8, 32, 16),
)


def test_an_interruption_stops_before_the_next_block():
    def check():
        if len(engine.looked_at) == 2:
            raise InterruptedError

    engine = Engine()
    with pytest.raises(InterruptedError):
        list(driving_motion(engine, film(*blue(*[1] * 30)), check_interrupt=check))
    assert len(engine.looked_at) == 2
