"""Temporal flicker."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed


def _steadiness(seen: Observed) -> float:
    change = seen.tracks["change"].values
    if not len(change):
        raise NotMeasurable("A single frame does not flicker.")
    return float((255 - change.double().mean()) / 255)


METRICS = (
    Metric(
        "T.Flicker",
        "",
        "higher",
        ("change",),
        "VBench: (255 - mean absolute difference of neighbouring frames) / 255",
        _steadiness,
        warn=0.96,
        fail=0.90,
    ),
)
