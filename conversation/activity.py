"""Whether somebody speaks, window by window: by Silero VAD where it is installed, else by loudness."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .roles import EARS_RATE

WINDOW = 512
"""Samples of a window: 32 ms."""


Activity = Callable[[Tensor], float]
"""How likely ``WINDOW`` samples are speech, 0 to 1; called for one window after the other."""


class Loudness:
    """Speech is what is clearly louder than the quietest sound of the last seconds."""

    ABOVE = 10.0
    """Decibels above the background from which sound counts as speech."""
    QUIETEST = -50.0
    """Decibels of full scale below which nothing counts as speech."""
    RISE = 3.0 * WINDOW / EARS_RATE
    """The background may grow by 3 decibels a second."""

    def __init__(self) -> None:
        self._background = -60.0  # a quiet room

    def __call__(self, window: Tensor) -> float:
        """1 for speech, 0 for what is not."""
        level = 10 * math.log10(window.square().mean().item() + 1e-10)
        speech = level > max(self._background + self.ABOVE, self.QUIETEST)
        self._background = min(level, self._background + self.RISE)
        return float(speech)


class Silero:
    """Silero VAD, whose weights come with its package.

    ImportError where ``silero-vad`` is not installed.
    """

    def __init__(self) -> None:
        from silero_vad import load_silero_vad

        self._model = load_silero_vad()

    def __call__(self, window: Tensor) -> float:
        """The probability of speech."""
        with torch.inference_mode():
            return self._model(window, EARS_RATE).item()


def best_activity() -> Activity:
    """Silero VAD where it is installed, else the rule of loudness."""
    try:
        return Silero()
    except ImportError:
        return Loudness()
