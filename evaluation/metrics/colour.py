"""Whether the colours wander off."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed


def _drift(seen: Observed) -> float:
    track = seen.tracks["colour"]
    if len(track) < 2:
        raise NotMeasurable("A single frame does not drift.")
    begin, end = (part.double().mean(0) for part in track.ends())
    return float((end - begin).abs().max())


METRICS = (
    Metric(
        "colour drift",
        "of 255",
        "lower",
        ("colour",),
        "largest change of mean red, green or blue between the first and the last tenth",
        _drift,
    ),
)
