"""Speech features while the sound comes in."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.ditto.speech_windows import SpeechStream, SpeechWindow, features_of, frame_count, silence


def encode(sound):
    """A row per 320 samples that says how loud they are."""
    rows = sound[0].unfold(0, 400, 320).abs().mean(1)
    return rows[None, :, None].expand(1, -1, 1024)


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 3200, 3201, 20_000])
def test_there_is_a_row_for_every_frame_of_the_sound(samples):
    assert frame_count(samples) == len(features_of(encode, torch.rand(samples)) if samples else [])


def test_features_do_not_depend_on_how_the_sound_comes():
    sound = torch.rand(16_000)
    stream = SpeechStream(encode)
    parts = [part for piece in sound.split(123) for part in stream.push(piece)]
    assert torch.equal(torch.cat([*parts, *stream.finish()]), features_of(encode, sound))


def test_five_frames_need_two_more_frames_of_sound_and_no_sample_beyond():
    stream = SpeechStream(encode)
    assert list(stream.push(torch.rand(7 * 640 - 1))) == []
    assert [len(part) for part in stream.push(torch.rand(1))] == [5]


def test_features_stand_where_the_sound_is():
    sound = torch.zeros(16_000)
    sound[10 * 640 : 11 * 640] = 1.0
    loud = features_of(encode, sound).mean(1)
    assert loud.argmax() == 10


def test_windows_with_other_sizes_hear_the_same():
    sound = torch.rand(16_000)
    assert torch.allclose(features_of(encode, sound, SpeechWindow(5, 5, 5)), features_of(encode, sound))


def test_silence_has_as_many_rows_as_asked_for():
    assert silence(encode, 70).shape == (70, 1024)
