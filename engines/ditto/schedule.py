"""The noise schedule of the motion model and the constants of its DDIM steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

TIMES = 1000

Noise = Callable[[str, int, tuple[int, ...]], Tensor]
"""Standard normal numbers: (``"start"`` or ``"steps"``, number of the window, shape)."""


def cosine_betas() -> Tensor:
    """The variances ``[1000]`` that are added, float32 of float64 numbers."""
    at = torch.arange(TIMES + 1, dtype=torch.float64) / TIMES
    kept = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - kept[1:] / kept[:-1]).clamp(0, 0.999).float()


def remaining() -> Tensor:
    """The share of the signal ``[1000]`` that is left at each time, float32."""
    return torch.cumprod(1 - cosine_betas(), 0)


def step_times(steps: int) -> list[int]:
    """Times from 999 down to -1, ``steps + 1`` of them, spaced as the reference does (in float32)."""
    return torch.linspace(-1, TIMES - 1, steps + 1).int().tolist()[::-1]


class Steps:
    """The constants of ``steps`` DDIM steps with eta 1.

    A step from time t to time s takes the noisy motion x and the predicted clean motion x0 to
    ``signal * x0 + direction * noise_of(x, x0) + spread * z`` with fresh noise z; the last step gives x0 itself.

    ``direction`` is exact. The reference takes it as ``sqrt(1 - after - spread**2)`` in float32, of which rounding
    leaves a few 2**-24 in the first step, other ones on other machines, and for 5 steps a negative number, whose motion
    is NaN.

    Attributes:
        times: ``steps + 1`` times from 999 to -1.
        signal, direction, spread: ``steps - 1`` numbers, computed in float32.
        noise_of_x, noise_of_x0: ``steps`` numbers; the predicted noise is ``x * noise_of_x - x0 / noise_of_x0``.
    """

    def __init__(self, steps: int):
        share = remaining()
        self.count = steps
        self.times = step_times(steps)
        now, after = share[self.times[:-2]], share[self.times[1:-1]]
        self.spread = ((1 - now / after) * (1 - after) / (1 - now)).sqrt().tolist()
        self.direction = ((1 - after) * (now / (after * (1 - now))).sqrt()).tolist()
        self.signal = after.sqrt().tolist()
        at_step = share[self.times[:-1]]
        self.noise_of_x = (1 / (1 - at_step)).sqrt().tolist()
        self.noise_of_x0 = (1 / at_step - 1).sqrt().tolist()

    def noise_of(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """The noise in ``x`` at step number ``step`` if ``x0`` is its clean motion."""
        return x * self.noise_of_x[step] - x0 / self.noise_of_x0[step]

    def advance(self, x: Tensor, x0: Tensor, z: Tensor, step: int) -> Tensor:
        """The noisy motion after step number ``step``, which is not the last one."""
        signal, direction, spread = self.signal[step], self.direction[step], self.spread[step]
        return signal * x0 + direction * self.noise_of(x, x0, step) + spread * z


def seeded_noise(seed: int) -> Noise:
    """Noise that depends on the seed, the window and the purpose alone, so that any window can be made again."""

    def draw(purpose: str, window: int, shape: tuple[int, ...]) -> Tensor:
        stream = 2 * window + (purpose == "start")
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stream) % 2**63)
        return torch.randn(shape, generator=generator)

    return draw
