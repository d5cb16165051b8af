"""Whether the mouth rests while nobody speaks."""

from __future__ import annotations

from ..loudness import silent
from ..metric import Metric, NotMeasurable, Observed

LEAST_SECONDS = 0.4
"""Silence that is too short says nothing."""


def _open_in_silence(seen: Observed) -> float:
    mouth, quiet = seen.tracks["mouth"].values.double(), silent(seen.tracks["loudness"], seen.fps)
    if int(quiet.sum()) < LEAST_SECONDS * seen.fps:
        raise NotMeasurable("Nobody is silent for long enough in this sound.")
    closed, wide = mouth.quantile(0.02), mouth.quantile(0.98)
    if float(wide - closed) < 1e-3:
        raise NotMeasurable("The mouth does not move at all.")
    return float((mouth[quiet].mean() - closed) / (wide - closed))


METRICS = (
    Metric(
        "mouth open in silence",
        "of 1",
        "lower",
        ("mouth", "loudness"),
        "mean opening in silence, from 0 (as closed as it gets) to 1 (as open as it gets)",
        _open_in_silence,
        warn=0.1,
        fail=None,
    ),
)
