"""Whether the picture gets softer."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed


def _mean(seen: Observed) -> float:
    return float(seen.tracks["sharpness"].values.mean())


def _drift(seen: Observed) -> float:
    track = seen.tracks["sharpness"]
    if len(track) < 2:
        raise NotMeasurable("A single frame does not drift.")
    begin, end = (part.double().mean() for part in track.ends())
    if begin < 1e-6:
        raise NotMeasurable("The first frames are of one colour, so their sharpness is no measure.")
    return float((end / begin - 1) * 100)


METRICS = (
    Metric(
        "sharpness",
        "of 255",
        "as it is",
        ("sharpness",),
        "mean absolute difference of pixels side by side",
        _mean,
    ),
    Metric(
        "sharpness drift",
        "%",
        "higher",
        ("sharpness",),
        "sharpness of the last tenth against the first tenth",
        _drift,
        warn=-10,
        fail=-25,
    ),
)
