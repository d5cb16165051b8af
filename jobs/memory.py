"""How much of what is sent may be in memory at the same time, whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .access import Refusal

COPIES = 3
"""A body is there as bytes, as the texts in its JSON, and as the files that these were."""
RETRY_SECONDS = 10
LEAST_SECONDS, SLOWEST = 20.0, 256 << 10
"""A body may take so long to arrive, and a second more for so many bytes."""


def patience(size: int) -> float:
    """Seconds that a body of this size may take to arrive."""
    return LEAST_SECONDS + size / SLOWEST


def too_slow(size: int) -> Refusal:
    """The answer to a body that takes longer."""
    return Refusal(408, f"Send it faster: a body of this size may take {patience(size):.0f} s.")


class Memory:
    """Counts the bytes that requests and sessions hold.

    Args:
        most: bytes at the same time; what is larger on its own may be there alone.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Count bytes before they are there; Refusal (503, with Retry-After) where they would be too many."""
        if self.held and self.held + count > self.most:
            raise Refusal(
                503,
                f"Send it again in {RETRY_SECONDS} s: what others send takes the memory that there is for it.",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        self.held += count

    def give(self, count: int) -> None:
        """Bytes are gone."""
        self.held -= count

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Count bytes as long as the block of code runs."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)
