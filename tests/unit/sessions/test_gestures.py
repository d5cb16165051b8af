"""Motions put together with their frame rates and sounds."""

from __future__ import annotations

import pytest
import torch
from avatar.sessions.gestures import blended, chained
from avatar.sessions.personalive import Driving

from tests.unit.engines.personalive.test_gestures import motion

RATE = 1000


def driving(frames: int, fps: float = 25.0, level: float | None = None, seconds: float = 0.0) -> Driving:
    sound = None
    if level is not None:
        samples = round((seconds or frames / fps) * RATE)
        sound = {"waveform": torch.full((1, 1, samples), level), "sample_rate": RATE}
    return Driving(motion(frames, frames), fps, sound)


def test_sounds_follow_one_another_where_their_motions_do():
    found = chained(driving(25, level=0.2), driving(50, level=0.5), 0.4)
    assert len(found.motion) == 25 + 10 + 50
    wave = found.audio["waveform"][0, 0]
    assert len(wave) == 3400
    assert (wave[:1000] == 0.2).all() and (wave[1000:1400] == 0).all() and (wave[1400:] == 0.5).all()


@pytest.mark.parametrize("seconds", [0.6, 1.7])
def test_a_sound_of_another_length_than_its_motion_moves_nothing(seconds):
    found = chained(driving(25, level=0.2, seconds=seconds), driving(25, level=0.5), 0.0)
    wave = found.audio["waveform"][0, 0]
    assert len(wave) == 2000 and (wave[1000:] == 0.5).all()


def test_a_motion_without_sound_is_silent_and_two_have_none():
    assert chained(driving(25), driving(25), 0.0).audio is None
    wave = chained(driving(25), driving(25, level=0.5), 0.0).audio["waveform"][0, 0]
    assert (wave[:1000] == 0).all() and (wave[1000:] == 0.5).all()


def test_the_second_motion_comes_to_the_first_ones_frame_rate():
    first, second = driving(25, 25.0), driving(60, 30.0)
    found = chained(first, second, 0.0)
    assert (len(found.motion), found.fps) == (25 + 50, 25.0)
    assert len(blended(first, second, 1.0, 0.0).motion) == 50


def test_a_blend_keeps_the_first_sound_or_takes_the_others():
    loud, silent = driving(25, level=0.5), driving(25)
    assert blended(silent, loud, 1.0, 0.0).audio is loud.audio
    assert blended(loud, driving(25, level=0.1), 1.0, 0.0).audio is loud.audio
