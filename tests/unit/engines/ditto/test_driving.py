"""What a portrait takes over from a motion."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.ditto.blinks import Blinks, blink_rows, fades
from avatar.engines.ditto.driving import EYES, LIPS, Controls, Driver, DrivingConfig, constant_controls
from avatar.engines.ditto.motion import FaceMotion, degrees

OTHERS = [point for point in range(21) if point not in (*LIPS, *EYES)]


def motion(frames, seed=0, keypoints=False):
    random = torch.Generator().manual_seed(seed)

    def numbers(width, scale):
        return torch.randn(frames, width, generator=random) * scale

    return FaceMotion(
        numbers(1, 0.05) + 1.3,
        *(numbers(66, 1.5) for _ in range(3)),
        numbers(3, 0.05),
        numbers(63, 0.02),
        numbers(63, 0.3) if keypoints else None,
    )


SOURCE = motion(1, 1, keypoints=True)


def still_head(expression):
    """A motion in which nothing but the expression ``[n, 63]`` differs from the source."""
    n = len(expression)
    parts = (SOURCE.scale, SOURCE.pitch, SOURCE.yaw, SOURCE.roll, SOURCE.translation)
    return FaceMotion(*(part.expand(n, -1) for part in parts), SOURCE.expression + expression)


def moved(driver, made, **controls):
    """Which of the 21 points differ from the source in each frame, ``[n, 21]``."""
    points, driving = driver(made, Controls(**controls))
    return (driving - points).abs().amax(-1) > 1e-6


def test_the_first_frame_of_a_relative_motion_is_the_source():
    points, driving = Driver(SOURCE)(motion(4))
    assert torch.allclose(driving[0], points[0], atol=1e-6)
    assert not torch.allclose(driving[1], points[0], atol=1e-3)


def test_only_lips_and_eyes_follow_an_expression():
    change = torch.cat([torch.zeros(1, 63), torch.full((1, 63), 0.1)])
    assert moved(Driver(SOURCE), still_head(change))[1].nonzero().flatten().tolist() == sorted((*LIPS, *EYES))
    lips = moved(Driver(SOURCE, DrivingConfig(drive_eyes=False)), still_head(change))
    assert lips[1].nonzero().flatten().tolist() == sorted(LIPS)


def test_the_whole_face_follows_where_that_is_wished():
    change = torch.cat([torch.zeros(1, 63), torch.full((1, 63), 0.1)])
    assert moved(Driver(SOURCE, DrivingConfig(whole_face=True)), still_head(change))[1].all()


def test_a_constant_expression_counts_only_from_another_origin():
    """An emotion that lasts from the first frame on is lost in relative motion, unless a neutral face is its origin."""
    smile = still_head(torch.full((3, 63), 0.1))
    assert not moved(Driver(SOURCE), smile).any()
    neutral = still_head(torch.zeros(1, 63))
    assert moved(Driver(SOURCE, origin=neutral), smile)[:, list(LIPS)].all()


def test_blocks_of_any_size_give_the_same_frames():
    made = motion(12)
    table = torch.randn(3, 63) * 0.02
    blinks = Blinks(table, blink_rows(12, 3, [2, 1]))
    whole = Driver(SOURCE, blinks=blinks)(made)[1]
    driver = Driver(SOURCE, blinks=blinks)
    assert torch.allclose(torch.cat([driver(made[i : i + 5])[1] for i in (0, 5, 10)]), whole, atol=1e-6)


def test_a_gain_turns_the_head_less_far():
    made = motion(3)
    half = {"yaw": torch.tensor([[0.5]])}
    none = {"yaw": torch.tensor([[0.0]])}
    turned, halved, straight = (
        Driver(SOURCE, DrivingConfig(relative=False, drive_eyes=False))(made, Controls(gains=gains))[1]
        for gains in ({}, half, none)
    )
    assert (halved - straight).abs().sum() < (turned - straight).abs().sum()


def test_an_offset_is_in_degrees():
    driver = Driver(SOURCE, DrivingConfig(gains={}))
    offsets = {"roll": torch.tensor([[90.0]])}
    _, driving = driver(motion(1), Controls(offsets=offsets))
    yaw_pitch_only = FaceMotion(
        *(getattr(SOURCE, n) for n in ("scale", "pitch", "yaw")),
        degrees(SOURCE.roll) + 90,
        SOURCE.translation,
        SOURCE.expression,
        SOURCE.keypoints,
    )
    assert torch.allclose(driving[:, OTHERS], yaw_pitch_only.points()[:, OTHERS], atol=1e-6)


def test_a_silent_voice_and_a_full_fade_show_the_sources_mouth():
    change = torch.cat([torch.zeros(1, 63), torch.full((2, 63), 0.1)])
    zero = torch.zeros(1, 1)
    assert not moved(Driver(SOURCE), still_head(change), voice=zero)[:, list(LIPS)].any()
    config = DrivingConfig(fade_to="source")
    assert not moved(Driver(SOURCE, config), still_head(change), fade=zero)[:, list(LIPS)].any()


def test_fading_angles_with_an_offset_does_not_mix_degrees_with_logits():
    config = DrivingConfig(fade_to="source", faded=("pitch",), drive_eyes=False)
    offsets = {"pitch": torch.tensor([[5.0]])}
    points, driving = Driver(SOURCE, config)(
        still_head(torch.zeros(1, 63)), Controls(offsets=offsets, fade=torch.zeros(1, 1))
    )
    assert torch.allclose(points, driving, atol=1e-5)


def test_a_source_video_is_played_forwards_and_backwards():
    video = motion(3, 5, keypoints=True)
    points, _ = Driver(video)(motion(7))
    own = video.points()
    assert torch.equal(points, own[[0, 1, 2, 2, 1, 0, 0]])


def test_eyes_blink_only_where_the_table_says_so():
    table = torch.cat([torch.zeros(1, 63), torch.full((1, 63), 0.1)])
    blinks = Blinks(table, torch.tensor([0, 1, 0]))
    shown = moved(Driver(SOURCE, blinks=blinks), still_head(torch.zeros(6, 63)))
    assert shown.any(1).tolist() == [False, True, False] * 2
    assert shown[1].nonzero().flatten().tolist() == sorted(EYES)


def test_negative_pauses_mean_no_blinks_and_seeds_decide_about_random_ones():
    assert not blink_rows(500, 15, -1).any()
    assert torch.equal(blink_rows(500, 15, 0, seed=3), blink_rows(500, 15, 0, seed=3))
    assert not torch.equal(blink_rows(500, 15, 0, seed=3), blink_rows(500, 15, 0, seed=4))


def test_fades_begin_and_end_in_nothing():
    shown = fades(20, 4, 4)
    assert shown[0] == 0
    assert shown[-1] == 0
    assert shown[8] == 1
    assert torch.equal(fades(20), torch.ones(20))


@pytest.mark.parametrize("wrong", [{"gains": {"nose": 1.0}}, {"faded": ("nose",)}, {"fade_to": "black"}])
def test_unknown_parts_are_refused(wrong):
    with pytest.raises(ValueError, match=r"nose|black"):
        DrivingConfig(**wrong)


def test_controls_of_a_run_fade_frame_by_frame_and_then_show_all():
    controls = constant_controls({"pitch": 2}, fades(6, fade_in=4))
    assert controls(0, 5).fade.flatten().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert controls(5, 5).fade.flatten().tolist() == [1] * 5
    assert controls(10, 5).fade is None
    assert controls(10, 5).offsets["pitch"].item() == 2
    with pytest.raises(ValueError, match="nose"):
        constant_controls({"nose": 1})


def test_the_lips_strength_scales_what_was_made_and_nothing_else():
    made = still_head(torch.full((1, 63), 0.01))

    def shift(lips):
        config = DrivingConfig(relative=False, lips=lips, drive_eyes=False)
        _, driving = Driver(SOURCE, config)(made)
        return (driving - SOURCE.points())[0] / SOURCE.scale

    once, twice = shift(1.0), shift(2.0)
    assert torch.allclose(twice[list(LIPS)], 2 * once[list(LIPS)], atol=1e-6)
    assert once[list(LIPS)].abs().max() > 0.009
    assert twice[[*OTHERS, *EYES]].abs().max() < 1e-6
