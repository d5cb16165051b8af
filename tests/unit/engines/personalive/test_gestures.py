"""Gestures by formula, and motions in a row or mixed."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.face.keypoints import Pose
from avatar.engines.personalive.gestures import GESTURES, PITCH, ROLL, YAW, blend, chain, gesture
from avatar.engines.personalive.motion import Motion

import tools.pack  # noqa: F401


def motion(frames: int, seed: int = 0) -> Motion:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((21, 3), (3,), (3,), (1,), (32, 16))
    *pose, tokens = (torch.randn(frames, *shape, generator=draw) for shape in shapes)
    return Motion(Pose(*pose), tokens)


PORTRAIT = motion(1)


def made(name: str, **options) -> Motion:
    given = {"seconds": 2.0, "fps": 25.0, "degrees": 10.0} | options
    return gesture(name, PORTRAIT.pose, PORTRAIT.tokens, **given)


def moved(name: str, **options) -> torch.Tensor:
    return made(name, **options).pose.angles - PORTRAIT.pose.angles


@pytest.mark.parametrize("name", GESTURES)
def test_a_gesture_has_its_length_comes_back_and_moves_nothing_but_the_head(name):
    found = made(name)
    assert len(found) == 50
    assert moved(name)[0].abs().max() < 1e-6
    assert moved(name)[-1].abs().max() < 1.5, "a step of one frame before the end"
    assert moved(name).abs().max() <= 10 + 1e-4
    assert torch.equal(found.tokens, PORTRAIT.tokens.expand(50, -1, -1))
    assert torch.equal(found.pose.translation, PORTRAIT.pose.translation.expand(50, -1))
    assert torch.equal(found.pose.keypoints, PORTRAIT.pose.keypoints.expand(50, -1, -1))


@pytest.mark.parametrize(
    ("name", "axis"), [("nod", PITCH), ("shake", YAW), ("tilt", ROLL), ("turn", YAW), ("raise", PITCH)]
)
def test_each_gesture_moves_its_own_angle_and_the_other_way_on_request(name, axis):
    angles = moved(name)
    assert angles[:, axis].abs().max() > 6
    assert angles[:, [other for other in range(3) if other != axis]].abs().max() == 0
    assert torch.allclose(moved(name, degrees=-10.0), -angles, atol=1e-5)


@pytest.mark.parametrize("times", [1, 3])
def test_a_nod_goes_to_and_fro_as_often_as_asked(times):
    curve = moved("nod", times=times, seconds=4.0)[1:-1, PITCH]
    signs = torch.sign(curve[curve.abs() > 0.05])
    assert (signs[1:] != signs[:-1]).sum() == 2 * times - 1


def test_a_turn_is_held_in_the_middle():
    assert torch.allclose(moved("turn")[12:36, YAW], torch.tensor(10.0))


def test_idling_is_slow_depends_on_its_seed_and_needs_all_angles():
    found = moved("idle", seconds=20.0)
    assert (found[1:] - found[:-1]).abs().max() < 1.0, "degrees in a frame"
    assert (found.abs().amax(0) > 0.5).all()
    assert torch.equal(found, moved("idle", seconds=20.0))
    assert not torch.equal(found, moved("idle", seconds=20.0, seed=1))


def test_an_unknown_gesture_is_named():
    with pytest.raises(ValueError, match=r"Choose a gesture of idle.*no 'wink'"):
        made("wink")


@pytest.mark.parametrize("between", [0, 1, 7])
def test_a_chain_keeps_both_motions_and_leads_over_evenly(between):
    first, second = motion(5, 1), motion(4, 2)
    found = chain(first, second, between)
    assert len(found) == 9 + between
    for part, place in ((first, 0), (second, 5 + between)):
        for a, b in zip(found[place : place + len(part)].tensors(), part.tensors(), strict=True):
            assert torch.equal(a, b)
    if between:
        way = found[4 : 6 + between]
        for a in way.tensors():
            steps = (a[1:] - a[:-1]).flatten(1).norm(dim=1)
            whole = (a[-1] - a[0]).norm()
            assert torch.isclose(steps.sum(), whole, rtol=1e-4), "straight from one to the other"


def test_a_blend_takes_the_head_of_one_and_the_face_of_the_other():
    one, other = motion(6, 1), motion(4, 2)
    found = blend(one, other, head=1.0, face=0.0)
    assert len(found) == 6 and torch.equal(found.tokens, one.tokens)
    assert torch.equal(found.pose.angles[:4], other.pose.angles)
    assert torch.equal(found.pose.angles[4:], other.pose.angles[3:].expand(2, -1))
    half = blend(one, other, head=0.0, face=0.5)
    assert torch.allclose(half.tokens[:4], (one.tokens[:4] + other.tokens) / 2, atol=1e-6)
    assert torch.equal(half.pose.angles, one.pose.angles)
