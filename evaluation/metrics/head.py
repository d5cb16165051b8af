"""How much the head moves."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed


def _spread(seen: Observed) -> float:
    head = seen.tracks["head"].values.double()
    if len(head) < 2:
        raise NotMeasurable("A single frame does not move.")
    return float(head.std(0).norm() * 100)


METRICS = (
    Metric(
        "head motion",
        "% of the face",
        "as it is",
        ("head",),
        "spread of the face's place over time (standard deviation of both directions together)",
        _spread,
    ),
)
