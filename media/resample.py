"""Sample-rate conversion in plain torch, so that no audio library has to match the installed torch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

ZERO_CROSSINGS = 64  # on each side of the filter: the transition band is a tenth of the band that is kept
ROLLOFF = 0.95  # the middle of that band, so that what would alias lies in the stop band
KAISER_BETA = 10.06  # 100 dB in the stop band
GROUP = 128  # output samples computed by one row of a matrix product
ROWS = 2048  # rows at a time


def resample(waveform: torch.Tensor, source_rate: int, target_rate: int) -> torch.Tensor:
    """Resample [..., S] from one integer rate to another with a windowed sinc; returns float32
    [..., ceil(S * target / source)]. Time 0 stays at sample 0."""
    waveform = waveform.float()
    if source_rate == target_rate:
        return waveform
    common = math.gcd(source_rate, target_rate)
    up, down = target_rate // common, source_rate // common
    total = -(-waveform.shape[-1] * up // down)
    cutoff = ROLLOFF * min(1.0, up / down)
    half = math.ceil(ZERO_CROSSINGS / cutoff)

    # Every `down` input samples the filter's position against the input repeats, after `up` output samples. One
    # row of windows covers such a cycle; short cycles are joined, long ones cut into groups of output samples.
    joined = max(1, GROUP // up)
    up, down = up * joined, down * joined
    cycles = -(-total // up)
    width = 2 * half + GROUP * down // up + 2
    signal = waveform.reshape(-1, waveform.shape[-1])
    signal = F.pad(signal, (half, max(0, cycles * down + width - signal.shape[-1])))
    out = signal.new_empty(len(signal), cycles, up)
    for first in range(0, up, GROUP):
        outputs = torch.arange(first, min(first + GROUP, up))
        base = first * down // up
        distance = torch.arange(width) - half + base - (outputs.double() * down / up).unsqueeze(1)
        taps = _taps(distance, cutoff, half)
        windows = signal[:, base:].unfold(-1, width, down)
        for row in range(0, cycles, ROWS):
            rows = slice(row, min(row + ROWS, cycles))
            out[:, rows, first : first + GROUP] = windows[:, rows] @ taps.T
    return out.flatten(1)[:, :total].reshape(*waveform.shape[:-1], total)


def _taps(distance: torch.Tensor, cutoff: float, half: int) -> torch.Tensor:
    """Filter taps [outputs, inputs] at ``distance`` input samples from each wanted position; their sum is 1, so
    that a constant stays what it is."""
    inside = 1 - (distance / half) ** 2
    window = torch.special.i0(KAISER_BETA * inside.clamp(min=0).sqrt()) * (inside >= 0)
    taps = torch.sinc(cutoff * distance) * window
    return (taps / taps.sum(dim=1, keepdim=True)).float()
