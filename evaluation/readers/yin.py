"""The pitch of a voice by YIN.

A. de Cheveigné, H. Kawahara: YIN, a fundamental frequency estimator for speech and music, 2002.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...media.sound import MonoSound
from ..tracks import Track

LOWEST, HIGHEST = 60.0, 500.0
"""Hertz between which voices are looked for."""
WINDOW = 0.05
"""Seconds that are compared with themselves, moved by a period: three periods of the lowest voice."""
STEP = 0.01
THRESHOLD = 0.15
"""A window whose best period leaves a larger part of its energy is no voice."""
QUIET = 1e-3
"""Root mean square below which a window is silence."""
AT_ONCE = 1000
"""Windows that are looked at together."""


def pitch(sound: MonoSound) -> Track:
    """F0 in hertz of the windows of a sound that are voiced, at their middles."""
    rate = sound.rate
    window, step, reach = round(WINDOW * rate), round(STEP * rate), int(rate / LOWEST) + 2
    times, values = [], []
    count = max(0, (sound.samples - window - reach) // step + 1)
    for first in range(0, count, AT_ONCE):
        many = min(AT_ONCE, count - first)
        samples = sound.read(first * step, (first + many - 1) * step + window + reach)
        found = _pitches(samples.unfold(0, window + reach, step), window, reach, rate)
        voiced = found > 0
        middles = (torch.arange(first, first + many) * step + window / 2) / rate
        times.append(middles[voiced].double())
        values.append(found[voiced])
    return Track(torch.cat(times), torch.cat(values)) if times else Track(torch.zeros(0), torch.zeros(0))


def _pitches(windows: Tensor, window: int, reach: int, rate: int) -> Tensor:
    """F0 of windows ``[N, window + reach]``; 0 where there is no voice."""
    windows = windows.double()
    head = windows[:, :window]
    size = 1 << (window + reach).bit_length()
    product = torch.fft.irfft(torch.fft.rfft(windows, size) * torch.fft.rfft(head, size).conj(), size)
    sums = torch.nn.functional.pad(windows.square().cumsum(1), (1, 0))
    energy = sums[:, window : window + reach] - sums[:, :reach]
    difference = (energy[:, :1] + energy - 2 * product[:, :reach]).clamp(min=0)
    order = torch.arange(1, reach, dtype=torch.float64)
    mean = difference[:, 1:].cumsum(1) / order
    normal = torch.cat([torch.ones(len(windows), 1), difference[:, 1:] / mean.clamp(min=1e-12)], 1)
    lowest = int(rate / HIGHEST)
    inner = normal[:, lowest : reach - 1]
    valley = (inner <= normal[:, lowest - 1 : reach - 2]) & (inner <= normal[:, lowest + 1 :])
    good = valley & (inner < THRESHOLD)
    found = good.any(1) & (head.square().mean(1).sqrt() > QUIET)
    period = good.float().argmax(1) + lowest
    rows = torch.arange(len(windows))
    before, here, after = (normal[rows, period + step] for step in (-1, 0, 1))
    bend = (before - 2 * here + after).clamp(min=1e-12)
    exact = period + 0.5 * (before - after) / bend
    return torch.where(found, rate / exact, 0.0).float()
