"""Lip sync without weights: does the mouth follow the loudness, and when.

The mouth is a fixed box of a face. Its darkest fifth darkens when a mouth opens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..correlation import correlations
from ..loudness import silent
from ..metric import Metric, NotMeasurable, Observed

REACH = 15
"""Frames to either side over which the sound is looked for, as SyncNet does."""
WINDOW = 4.0
"""Seconds of a window in the course of sync over time."""


def mouth_and_loudness(seen: Observed) -> tuple[Tensor, Tensor]:
    """Both tracks ``[F]`` at the video's mean frame rate."""
    mouth, loud = seen.tracks["mouth"], seen.tracks["loudness"]
    if len(mouth) < 2 * REACH + 3:
        raise NotMeasurable(f"Sync needs {2 * REACH + 3} frames or more: there are {len(mouth)}.")
    if bool(silent(loud, seen.fps).all()):
        raise NotMeasurable("Nobody speaks in this sound, so no mouth can follow it.")
    return mouth.even(seen.fps), loud.even(seen.fps)


def windows(seen: Observed) -> list[tuple[float, float, int]]:
    """Middle in seconds, correlation and offset in frames of every four seconds."""
    mouth, loud = mouth_and_loudness(seen)
    length = round(WINDOW * seen.fps)
    found = []
    for start in range(0, len(mouth) - length + 1, length):
        one = correlations(mouth[start : start + length], loud[start : start + length], REACH)
        best = int(one.argmax())
        found.append(((start + length / 2) / seen.fps, float(one[best]), best - REACH))
    return found


def _correlations(seen: Observed) -> Tensor:
    found = correlations(*mouth_and_loudness(seen), REACH)
    if not bool(found.abs().max() > 0):
        return torch.zeros_like(found)
    return found


def _strength(seen: Observed) -> float:
    return float(_correlations(seen).max())


def _offset(seen: Observed) -> float:
    found = _correlations(seen)
    if not bool(found.max() > 0):
        raise NotMeasurable("Nothing in the mouth's box follows the sound, so there is no offset.")
    return float(found.argmax() - REACH)


def _now(seen: Observed) -> float:
    return float(_correlations(seen)[REACH])


NEEDS = ("mouth", "loudness")
METRICS = (
    Metric(
        "sync r",
        "",
        "higher",
        NEEDS,
        "largest correlation of the mouth's darkest fifth with log loudness over shifts of 15 frames",
        _strength,
        warn=0.35,
        fail=0.25,
    ),
    Metric("sync r unshifted", "", "higher", NEEDS, "the same correlation without a shift", _now),
    Metric(
        "sync offset",
        "frames",
        "near zero",
        NEEDS,
        "the shift with the largest correlation; above 0 the picture comes late",
        _offset,
        warn=1,
        fail=3,
    ),
)
