"""Threads that keep several GPUs busy take turns in asking for work, whoever has the oldest work first.

Asking is all Python. Threads that do it at once wait for Python's lock at every call, and each waits longer than all of
them together would take one after the other. What is asked for runs on the GPUs at once all the same.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

AHEAD = 2
"""Pieces of work that a GPU may have before it when the next one is asked for. A GPU takes about a thousand kernels;
whoever asks for more waits in his turn."""


class Turns:
    """Who may ask for work. Not fair: the lowest rank goes first, and of equal ones whoever came first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int]] = []
        self._taken = False

    def take(self, rank: int) -> None:
        """Wait for a turn."""
        with self._changed:
            mine = rank, next(self._numbers)
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == mine)
            heapq.heappop(self._waiting)
            self._taken = True

    def give(self) -> None:
        """End the turn."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()


def answers_at_once(device: torch.device) -> bool:
    """Whether a thread that asks ``device`` for work does it itself, so that turns would stop the others."""
    return device.type != "cuda"


class Turn:
    """The turns of one thread, which asks ``device`` for work; a CPU needs none."""

    def __init__(self, turns: Turns, device: torch.device) -> None:
        self._turns, self._device = turns, device
        self._rank: int | None = None
        self._asked: deque[torch.cuda.Event] = deque()

    @contextmanager
    def taken(self, rank: int) -> Iterator[None]:
        """Inside this it is this thread's turn."""
        if answers_at_once(self._device):
            yield
            return
        self._wait()
        self._take(rank)
        try:
            yield
        finally:
            self._give()

    def pause(self) -> None:
        """The end of a piece of work: let others go first who have older work, and the GPU do most of it. Outside of
        `taken` it does nothing."""
        if self._rank is not None:
            rank = self._rank
            self._give()
            try:
                self._wait()
            finally:
                self._take(rank)

    def _take(self, rank: int) -> None:
        self._turns.take(rank)
        self._rank = rank

    def _give(self) -> None:
        self._rank = None
        try:
            if self._device.type == "cuda":
                self._asked.append(torch.cuda.current_stream(self._device).record_event(_event()))
        finally:
            self._turns.give()

    def _wait(self) -> None:
        """Until the GPU has no more than `AHEAD` pieces before it."""
        while len(self._asked) > AHEAD:
            self._asked.popleft().synchronize()


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(blocking=True)  # a thread that waits leaves its core to others
