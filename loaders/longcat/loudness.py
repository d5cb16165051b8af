"""Bringing speech to the loudness that LongCat was trained with (ITU-R BS.1770-4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16000
TARGET = -23.0  # LUFS
SHELF = 4.0, 2**-0.5, 1500.0
"""Gain in dB, quality and corner in Hz of the high shelf: the head in front of the ears."""
PASS = 0.5, 38.0
"""Quality and corner in Hz of the high pass."""
BLOCK, STEP = 0.4, 0.1  # seconds
SILENCE, BELOW = -70.0, 10.0
"""Blocks that do not count: under so many LUFS, and so much under the mean of the rest."""
NOT_MEASURED = 100.0
"""A louder or softer sound than this, in LUFS, is none that a gain could help."""


def loudness(samples: NDArray[np.float64]) -> float:
    """Loudness in LUFS of a mono sound [S] at 16 kHz; minus infinity for silence, and for less than a block of it."""
    from scipy.signal import lfilter

    if len(samples) < BLOCK * RATE:
        return -np.inf
    heard = lfilter(*_high_pass(), lfilter(*_high_shelf(), samples))
    count = int(np.round((len(samples) / RATE - BLOCK) / STEP)) + 1
    starts = np.arange(count) * STEP
    spans = [(int(start * RATE), int((start + BLOCK) * RATE)) for start in starts]
    power = np.array([np.sum(heard[first:last] ** 2) / (BLOCK * RATE) for first, last in spans])
    counted = power[_level(power) >= SILENCE]
    if not len(counted):
        return -np.inf
    counted = power[(_level(power) > SILENCE) & (_level(power) > _level(counted.mean()) - BELOW)]
    return float(_level(counted.mean())) if len(counted) else -np.inf


def gain(samples: NDArray[np.float64]) -> float:
    """The factor that brings a sound to -23 LUFS; 1 for silence, and for what is too short to be measured."""
    measured = loudness(samples)
    return 1.0 if abs(measured) > NOT_MEASURED else 10 ** ((TARGET - measured) / 20)


def levelled(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sound at -23 LUFS; silence, and what is too short to be measured, stay as they are."""
    return samples * gain(samples)


def _level(power: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10(power)


def _high_shelf() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerator and denominator of the second order (R. Bristow-Johnson's cookbook)."""
    gain, quality, corner = SHELF
    a, w = 10 ** (gain / 40), 2 * np.pi * corner / RATE
    alpha, c = np.sin(w) / (2 * quality), np.cos(w)
    slope = 2 * np.sqrt(a) * alpha
    top = a * np.array([a + 1 + (a - 1) * c + slope, -2 * (a - 1 + (a + 1) * c), a + 1 + (a - 1) * c - slope])
    bottom = np.array([a + 1 - (a - 1) * c + slope, 2 * (a - 1 - (a + 1) * c), a + 1 - (a - 1) * c - slope])
    return top / bottom[0], bottom / bottom[0]


def _high_pass() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    quality, corner = PASS
    w = 2 * np.pi * corner / RATE
    alpha, c = np.sin(w) / (2 * quality), np.cos(w)
    top = np.array([(1 + c) / 2, -(1 + c), (1 + c) / 2])
    bottom = np.array([1 + alpha, -2 * c, 1 - alpha])
    return top / bottom[0], bottom / bottom[0]
