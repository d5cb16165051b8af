"""How long an answer took, part by part."""

from __future__ import annotations

from collections.abc import Callable

PARTS = ("turn_end", "ears", "mind", "voice", "written", "block", "lips")
"""In order: the turn counts as over; its words are known; the first piece of the answer is there; its first sound is
there; that may be spoken; a block of the video takes it; a page has shown it."""


class Timings:
    """Seconds from the end of a person's speech (or from a typed message) to each part of the answer."""

    def __init__(self, clock: Callable[[], float], ended: float) -> None:
        self._clock, self._ended = clock, ended
        self._found: dict[str, float] = {}

    def mark(self, part: str) -> None:
        """A part is there now; later marks of the same part do not count."""
        if part not in self._found:
            self._found[part] = self._clock() - self._ended

    def ended(self, at: float) -> None:
        """The speech has ended at another time than thought."""
        shift = self._ended - at
        self._found = {part: seconds + shift for part, seconds in self._found.items()}
        self._ended = at

    def has(self, part: str) -> bool:
        """Whether a part is there."""
        return part in self._found

    def as_json(self) -> dict[str, float | None]:
        """All parts, in seconds; None for what is not there."""
        return {part: round(self._found[part], 3) if part in self._found else None for part in PARTS}
