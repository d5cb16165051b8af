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
    """The place of one session: it comes, it waits, then it has an avatar."""

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
        self._coming: list[Place] = []
        self._waiting: list[Place] = []
        self._running: list[Place] = []
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def open(self) -> bool:
        """Whether a further one may wait."""
        return not self.closed and self.waiting < self.most

    @property
    def waiting(self) -> int:
        """How many wait, or will once their request has arrived."""
        return len(self._waiting) + len(self._coming)

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
    def coming(self) -> Iterator[Place]:
        """A place for a request that is still read, which counts from now on; Refusal as `check_room`.

        It is given back in the end, unless it has begun to wait.
        """
        self.check_room()
        self._coming.append(place := Place())
        try:
            yield place
        finally:
            if place in self._coming:
                self._coming.remove(place)

    def wait(self, place: Place) -> Place:
        """This place waits at the end of the line from now on, wherever it was."""
        self.leave(place)
        place.began = None
        self._waiting.append(place)
        return place

    def begin(self, place: Place) -> None:
        """An avatar serves this place; said again, it changes nothing."""
        if place in self._waiting:
            place.began = self._clock()
            self._waiting.remove(place)
            self._running.append(place)

    def leave(self, place: Place) -> None:
        """This place is free again; said again, it changes nothing."""
        for places in (self._coming, self._waiting, self._running):
            if place in places:
                places.remove(place)
                if place.began is not None:
                    self._took.append(self._clock() - place.began)

    def ahead(self, place: Place) -> int:
        """How many of those who wait come before a place."""
        return self._waiting.index(place) if place in self._waiting else 0

    def retry_seconds(self) -> int:
        """Seconds until one of those who are served is likely to end."""
        mean = sum(self._took) / len(self._took) if self._took else FIRST_GUESS
        return max(1, min(LONGEST_RETRY, math.ceil(mean / max(1, self.running))))
