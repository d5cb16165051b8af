"""Motion out of windows: length, order, memory, noise. A stand-in takes the place of the motion model."""

from __future__ import annotations

import math

import pytest
import torch
from avatar.engines.ditto.conditions import Character, Conditions, emotion_rows
from avatar.engines.ditto.config import LIVE, WINDOW, WindowConfig
from avatar.engines.ditto.motion import FaceMotion
from avatar.engines.ditto.schedule import Steps, seeded_noise
from avatar.engines.ditto.windows import MotionStream

MOTION = 265


def character(frames=1):
    widths = (1, 66, 66, 66, 3, 63, 63)
    return Character(
        FaceMotion(*(torch.rand(frames, width) for width in widths)),
        torch.rand(frames, 2),
        torch.rand(frames, 6),
    )


def speech_shown(start, noises, before, condition):
    """A window whose every frame shows what was said in it, and a little of its noise and of the frame before."""
    said = condition[..., :MOTION]
    return said + 0.01 * start + 0.01 * noises.sum(0, keepdim=True) + 0.01 * before[:, None]


def stream(config, sample=speech_shown, seed=0, who=None):
    who = who or character()
    warm_up = torch.zeros(config.overlap, 1024) if config.live else None
    return MotionStream(
        sample,
        Conditions(who, emotion_rows()),
        who.motion.vectors(),
        config,
        seeded_noise(seed),
        warm_up=warm_up,
    )


def perform(motion, speech, handed_over=None):
    parts = [part for rows in speech.split(handed_over or len(speech)) for part in motion.push(rows)]
    return torch.cat([*parts, *motion.finish()])


@pytest.mark.parametrize("config", [WindowConfig(steps=3), WindowConfig(overlap=1, steps=3), LIVE])
@pytest.mark.parametrize("frames", [1, 9, 10, 70, 79, 80, 81, 150, 151, 303])
def test_every_frame_of_speech_gives_one_frame_of_motion(config, frames):
    assert len(perform(stream(config), torch.rand(frames, 1024))) == frames


def test_silence_without_a_frame_gives_no_motion():
    for config in (WindowConfig(), LIVE):
        assert list(stream(config).finish()) == []


@pytest.mark.parametrize("config", [WindowConfig(steps=3), LIVE])
def test_motion_shows_what_is_said_at_the_same_time(config):
    """A jump in the speech is a jump in the expression of the same frame, whatever window it falls into."""
    for jump in (3, 40, 75, 130):
        speech = torch.zeros(200, 1024)
        speech[jump:] = 1.0
        motion = perform(stream(config), speech)[:, 202:].mean(1)
        assert (motion[1:] - motion[:-1]).argmax() + 1 == jump


def test_motion_does_not_depend_on_how_speech_is_handed_over():
    who, speech = character(), torch.rand(217, 1024)
    for config in (WindowConfig(steps=3), LIVE):
        whole = perform(stream(config, who=who), speech)
        assert torch.equal(whole, perform(stream(config, who=who), speech, handed_over=7))


def test_a_seed_decides():
    who, speech = character(), torch.rand(100, 1024)
    first, again, other = (perform(stream(LIVE, seed=seed, who=who), speech) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("fresh", [False, True])
def test_windows_share_the_noise_of_their_steps_unless_it_is_fresh(fresh):
    seen = []

    def sample(start, noises, before, condition):
        seen.append((start, noises))
        return start

    perform(stream(WindowConfig(steps=3, fresh_noise=fresh), sample), torch.rand(200, 1024))
    (first, noises), (second, more) = seen[:2]
    assert not torch.equal(first, second)
    assert torch.equal(noises, more) != fresh


@pytest.mark.parametrize("config", [WindowConfig(steps=2), LIVE])
def test_what_is_kept_does_not_grow(config):
    motion, sizes = stream(config), []
    for _ in range(60):
        list(motion.push(torch.rand(35, 1024)))
        sizes.append(sum(t.numel() for t in vars(motion).values() if isinstance(t, torch.Tensor)))
    assert max(sizes[-20:]) <= max(sizes[10:30])


def test_live_motion_is_handed_out_at_the_promised_moment():
    """A block comes when the speech of the block and of the one after it is there."""
    motion = stream(LIVE)
    block = WINDOW - LIVE.overlap
    came = [sum(map(len, motion.push(torch.rand(5, 1024)))) for _ in range(12)]
    assert sum(came[: 2 * block // 5 - 1]) == 0
    assert came[2 * block // 5 - 1 :: 2] == [block] * len(came[2 * block // 5 - 1 :: 2])


def test_no_number_of_steps_makes_nan():
    for count in range(1, 201):
        steps = Steps(count)
        for part in (steps.signal, steps.direction, steps.spread, steps.noise_of_x, steps.noise_of_x0):
            assert all(map(math.isfinite, part)), count


@pytest.mark.parametrize(
    "wrong", [{"overlap": 80}, {"overlap": 0}, {"overlap": 39, "live": True}, {"steps": 0}]
)
def test_windows_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match="Choose"):
        WindowConfig(**wrong)
