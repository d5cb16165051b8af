"""Sound that is read in windows."""

from __future__ import annotations

import pytest
import torch
from avatar.media.audio import pad, to_mono
from avatar.media.sound import MonoSound

RATES = [8000, 11025, 16000, 22050, 24000, 44100, 44101, 48000, 96000]


def noise(rate: int, seconds: float = 2.0, channels: int = 2) -> dict:
    return {"waveform": torch.rand(1, channels, round(rate * seconds)) - 0.5, "sample_rate": rate}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "window", [(0, 16000), (0, 1), (1, 2), (9999, 20001), (30_000, 36_000), (40_000, 40_100)]
)
def test_a_window_is_cut_out_of_the_whole(rate, window):
    audio, (start, stop) = noise(rate), window
    whole = to_mono(pad(audio, after_seconds=2.0))
    sound = MonoSound(audio, 16000, after=0.5)
    assert torch.equal(sound.read(start, stop), whole[start:stop])
    assert sound.samples == len(to_mono(pad(audio, after_seconds=0.5)))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_silence_before_moves_everything(rate):
    audio = noise(rate)
    sound = MonoSound(audio, 16000, before=0.12)
    assert sound.samples == 33920
    assert torch.equal(sound.read(0, sound.samples), to_mono(pad(audio, 0.12))[: sound.samples])
    assert torch.equal(sound.read(1900, 9000), to_mono(pad(audio, 0.12))[1900:9000])


def test_outside_of_the_sound_is_silence():
    sound = MonoSound(noise(16000), 16000, before=0.1)
    assert torch.equal(sound.read(0, 1600), torch.zeros(1600))
    assert torch.equal(sound.read(33_599, 40_000)[1:], torch.zeros(6400))
    assert sound.read(33_599, 40_000)[0] != 0
    assert torch.equal(sound.read(90_000, 90_010), torch.zeros(10))
