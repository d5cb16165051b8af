"""Ditto's windows of sound against the recorded reference; a stand-in takes the place of the speech network."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from avatar.engines.ditto.speech_windows import SpeechStream, SpeechWindow, frame_count, silence

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, fixture

COLUMNS = 8


def sound(samples):
    """The set's test signal, float32 ``[samples]``."""
    random = np.random.RandomState((20011 + 7919 * fx.seed()) & 0xFFFFFFFF)
    frequencies = 90.0 + 180.0 * random.rand(6)
    amplitudes = 0.02 + 0.1 * random.rand(6)
    time = np.arange(samples) / 16000.0
    waves = sum(a * np.sin(2 * np.pi * f * time + f) for f, a in zip(frequencies, amplitudes, strict=True))
    signal = waves * (0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * time + fx.seed()))
    return torch.from_numpy(signal.astype(np.float32))


def encode(samples):
    """The set's stand-in for the speech network: mean and mean size of 400 samples at every 320."""
    windows = samples[0].double().unfold(0, 400, 320)
    channel = torch.arange(1024, dtype=torch.float64)
    rows = windows.mean(1)[:, None] * (1 + channel / 1024) + windows.abs().mean(1)[:, None] * channel.cos()
    assert len(rows) == (samples.shape[1] - 80) // 320
    return rows.float()[None]


def names(way):
    if not fx.has_fixture(fx.FAMILY, "07"):
        return []
    return [name for name in fx.manifest_entry(fx.FAMILY, "07")["tensors"] if name.startswith(way)]


def features(samples, handed_over, **more):
    stream = SpeechStream(encode, **more)
    parts = [part for piece in samples.split(handed_over) for part in stream.push(piece)]
    return torch.cat([*parts, *stream.finish()])


@pytest.mark.parametrize("handed_over", [10**6, 777])
@pytest.mark.parametrize("name", names("offline"))
def test_features_of_a_recording(name, handed_over):
    samples, _, chunks = name.removeprefix("offline_").partition("_chunk_")
    window = SpeechWindow(*map(int, chunks.split("_"))) if chunks else SpeechWindow()
    made = features(sound(int(samples)), handed_over, window=window)
    assert len(made) == frame_count(int(samples))
    check(made[:, :COLUMNS], "07", name)


@pytest.mark.parametrize("name", names("online"))
def test_live_features(name):
    samples = int(re.search(r"\d+", name)[0])
    check(features(sound(samples), 640, late=True)[:, :COLUMNS], "07", name)


def test_warm_up_has_a_row_per_frame():
    _, values = fixture("07")
    frames = values["silence_70_frames"]
    assert silence(encode, frames).shape == (frames, 1024)
