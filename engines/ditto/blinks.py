"""When eyes blink, and how videos fade in and out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

LEAST_OPEN, MOST_OPEN = 60, 100
"""Frames between two blinks that are drawn at random, both included."""
UNKNOWN_LENGTH = 3000
"""Frames after which the blinks of a video of unknown length come again."""


@dataclass(frozen=True)
class Blinks:
    """Blinks of the eyes.

    Attributes:
        table: shifts of the keypoints during a blink, ``[length, 63]``; the first row is that of open eyes.
        rows: which of them each frame takes, ``[frames]``; a longer video takes them again and again.
    """

    table: Tensor
    rows: Tensor

    def __call__(self, first: int, count: int) -> Tensor:
        """Shifts ``[count, 63]`` of the frames from number ``first`` on."""
        places = torch.arange(first, first + count, device=self.rows.device) % len(self.rows)
        return self.table[self.rows[places]]

    def to(self, device: torch.device | str) -> Blinks:
        return Blinks(self.table.to(device), self.rows.to(device))


def blink_rows(frames: int, length: int, open_frames: int | Sequence[int] = 0, seed: int = 0) -> Tensor:
    """The row of the table that each of ``frames`` frames takes, int64.

    Args:
        length: frames of a blink.
        open_frames: frames between blinks: a number, several that are taken in turn, 0 for random ones
            (`LEAST_OPEN` to `MOST_OPEN`), negative for no blinks.
        seed: of the random ones.
    """
    rows = torch.zeros(frames, dtype=torch.int64)
    if isinstance(open_frames, int) and open_frames < 0:
        return rows
    start, last, following = _pauses(open_frames, random.Random(seed))
    blink = torch.arange(length)
    while start < frames - max(last, length):
        rows[start : start + length] = blink
        start += length + next(following)
    return rows


def _pauses(open_frames: int | Sequence[int], draw: random.Random) -> tuple[int, int, Iterator[int]]:
    """The pause before the first blink, the one after the last, and those between."""
    if open_frames == 0:
        pauses = iter(lambda: draw.randint(LEAST_OPEN, MOST_OPEN), None)
        return next(pauses), next(pauses), pauses
    listed = [open_frames] if isinstance(open_frames, int) else list(open_frames)
    if not listed or min(listed) < 0:
        raise ValueError(f"Give pauses between blinks of 0 frames or more: {listed} does not fit.")
    pauses = cycle(listed)
    return next(pauses), listed[-1], pauses


def fades(frames: int, fade_in: int = 0, fade_out: int = 0) -> Tensor:
    """How much of its motion each of ``frames`` frames shows ``[frames]``: 0 to 1 at the start, 1 to 0 at the end."""
    place = torch.arange(frames)
    shown = torch.ones(frames)
    if fade_in > 0:
        shown = torch.where(place < fade_in, place / fade_in, shown)
    if fade_out > 0:
        shown = torch.where(place >= frames - 1 - fade_out, (frames - 1 - place) / fade_out, shown)
    return shown
