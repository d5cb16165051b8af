"""Aesthetics and quality of the pictures, as a network judges them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..clip import Piece
from ..tracks import Track

SECONDS = 1.0
"""Between two frames that are judged."""
TASKS = ("aesthetics", "quality")


class Judge(Protocol):
    """Who judges pictures, such as Q-Align."""

    def judge(self, picture: Tensor) -> tuple[float, float]:
        """Aesthetics and quality, 1 to 5, of a picture ``[H, W, 3]``, uint8."""


class Quality:
    """Gives "aesthetics" and "quality" of a frame per second, both from one look at it."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self._next = judge, 0.0

    def read(self, piece: Piece) -> dict[str, Track]:
        """The tracks of these frames by name."""
        chosen, found = [], []
        for index, time in enumerate(piece.times.tolist()):
            if time >= self._next - 1e-6:
                self._next += SECONDS
                chosen.append(index)
                found.append(self._judge.judge(piece.frames[index]))
        times, values = piece.times[chosen], torch.tensor(found).reshape(-1, len(TASKS))
        return {name: Track(times, values[:, i]) for i, name in enumerate(TASKS)}
