"""Checks that memory suffices before it is taken."""

from __future__ import annotations

import psutil


def check_room(needed: int, what: str, advice: str) -> None:
    """MemoryError, which opens with ``advice``, when ``what`` needs more bytes than are free."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{advice}: {what} need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free."
        )
