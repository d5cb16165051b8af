"""The shipped portrait and voice as files of any size and length, for the demo and the tests."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

from .environment import ROOT

EXAMPLE = ROOT / "talker" / "example"
SAMPLE_RATE = 24_000


def portrait(path: Path, size: int = 512) -> Path:
    """Write the shipped portrait as a ``size`` x ``size`` picture to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(EXAMPLE / "portrait.png").convert("RGB")
    picture.resize((size, size), Image.Resampling.LANCZOS).save(path)
    return path


def speech(path: Path, seconds: float = 4.0) -> Path:
    """Write the first ``seconds`` of the shipped speech, repeated if need be, as a mono 16-bit WAV of 24 kHz."""
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
    with av.open(str(EXAMPLE / "speech.ogg")) as file:
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.resize(samples, round(seconds * SAMPLE_RATE)).astype("<i2").tobytes())
    return path
