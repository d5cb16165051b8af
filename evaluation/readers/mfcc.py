"""Mel-frequency cepstral coefficients as SyncNet was trained on (those of python_speech_features)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 16_000
WINDOW, STEP, SPECTRUM = 400, 160, 512
"""Samples per window and from one window to the next (25 and 10 ms), and samples of the Fourier transform."""
BANDS, COEFFICIENTS, LIFTER = 26, 13, 22
EMPHASIS = 0.97
SMALLEST = torch.finfo(torch.float64).eps


def mfcc(samples: Tensor) -> Tensor:
    """Coefficients ``[T, 13]`` at 100 per second of samples ``[S]`` in -1 to 1 at 16 kHz.

    The first coefficient is the logarithm of the window's energy. Samples count as 16-bit numbers.
    """
    sound = (samples.double() * 32768).round().clamp(-32768, 32767)
    sound = torch.cat([sound[:1], sound[1:] - EMPHASIS * sound[:-1]])
    count = 1 + max(0, math.ceil((len(sound) - WINDOW) / STEP))
    sound = F.pad(sound, (0, (count - 1) * STEP + WINDOW - len(sound)))
    power = torch.fft.rfft(sound.unfold(0, WINDOW, STEP), SPECTRUM).abs().square() / SPECTRUM
    bands = (power @ _filters().T).clamp(min=SMALLEST)
    found = bands.log() @ _cosines().T
    order = torch.arange(COEFFICIENTS, dtype=torch.float64)
    found = found * (1 + LIFTER / 2 * torch.sin(math.pi * order / LIFTER))
    found[:, 0] = power.sum(1).clamp(min=SMALLEST).log()
    return found.float()


def _filters() -> Tensor:
    """Triangles ``[26, 257]`` whose corners are evenly spaced in mel, on whole bins of the spectrum."""
    highest = 2595 * math.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (torch.linspace(0, highest, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    corner = ((SPECTRUM + 1) * hertz / RATE).floor()
    left, middle, right = (corner[start : start + BANDS, None] for start in range(3))
    bins = torch.arange(SPECTRUM // 2 + 1, dtype=torch.float64)
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return torch.where(bins < middle, rising, falling).clamp(min=0).nan_to_num(0, 0, 0)


def _cosines() -> Tensor:
    """The first rows ``[13, 26]`` of the orthonormal discrete cosine transform of the second kind."""
    order, place = torch.arange(COEFFICIENTS)[:, None], torch.arange(BANDS)[None] + 0.5
    rows = torch.cos(math.pi * order * place / BANDS).double() * math.sqrt(2 / BANDS)
    rows[0] /= math.sqrt(2)
    return rows
