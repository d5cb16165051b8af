"""The line of those who wait for an avatar: first come, first served, and so many at most."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from avatar.jobs.access import Refusal

REMEMBERED = 20
"""Sessions whose mean length tells how long the next ones take."""
FIRST_GUESS = 60.0
"""Seconds that a session takes, before one has ended."""
LONGEST_RETRY = 600


class Place:
    """The place of one session: it waits, then it has an avatar."""

    def __init__(self) -> None:
        self.began: float | None = None


class Line:
    """Counts who waits and who is served. Ray keeps the order; this one knows it, because all come by here.

    Nobody is let in any more once ``closed`` is set.

    Args:
        most: that may wait.
        clock: seconds, for tests.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.closed, self._clock = most, False, clock
        self._waiting: list[Place] = []
        self._running: list[Place] = []
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def open(self) -> bool:
        """Whether a further one may wait."""
        return not self.closed and self.waiting < self.most

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many have an avatar."""
        return len(self._running)

    def check_room(self) -> None:
        """Refusal (503, with Retry-After) while no further one may wait, or once the line is closed."""
        if self.open:
            return
        seconds = self.retry_seconds()
        why = "this pool is ending" if self.closed else f"{self.waiting} are waiting, which is as many as may"
        raise Refusal(503, f"Ask again in {seconds} s: {why}.", {"Retry-After": str(seconds)})

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place at the end, until the block of code ends; `begin` says when it is served."""
        place = Place()
        self._waiting.append(place)
        try:
            yield place
        finally:
            if place.began is None:
                self._waiting.remove(place)
            else:
                self._running.remove(place)
                self._took.append(self._clock() - place.began)

    def begin(self, place: Place) -> None:
        """An avatar serves this place; said again, it changes nothing."""
        if place.began is None:
            place.began = self._clock()
            self._waiting.remove(place)
            self._running.append(place)

    def ahead(self, place: Place) -> int:
        """How many of those who wait come before a place."""
        return 0 if place.began is not None else self._waiting.index(place)

    def retry_seconds(self) -> int:
        """Seconds until one of those who are served is likely to end."""
        mean = sum(self._took) / len(self._took) if self._took else FIRST_GUESS
        return max(1, min(LONGEST_RETRY, math.ceil(mean / max(1, self.running))))
