"""SyncNet's coefficients against python_speech_features, with which its authors trained it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar.evaluation.readers.mfcc import mfcc


@pytest.mark.parametrize("samples", [400, 1000, 16_123])
def test_coefficients_are_those_of_the_published_program(samples):
    reference = pytest.importorskip("python_speech_features")
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(1)) * 0.1
    whole = (noise.double() * 32768).round().numpy().astype(np.int16)
    expected = torch.from_numpy(reference.mfcc(whole, 16_000)).float()
    found = mfcc(noise)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-3
