"""Whether the person stays the one of the reference picture."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed


def _mean(track: str):
    def compute(seen: Observed) -> float:
        if not len(seen.tracks[track]):
            raise NotMeasurable("No frame was looked at.")
        return float(seen.tracks[track].values.double().mean())

    return compute


def _slope(track: str):
    def compute(seen: Observed) -> float:
        if len(seen.tracks[track]) < 2:
            raise NotMeasurable("One frame has no slope.")
        return seen.tracks[track].per_minute()

    return compute


WEIGHTS = "facebook/dinov2-base"
DINO = "cosine of DINOv2's class token between frames and the reference picture"
METRICS = (
    Metric("Dino-S", "", "higher", ("dino",), DINO, _mean("dino"), warn=0.94, fail=0.90, weights=WEIGHTS),
    Metric(
        "Dino-S slope",
        "per minute",
        "higher",
        ("dino",),
        "straight line through Dino-S over time",
        _slope("dino"),
        warn=-0.005,
        fail=-0.02,
        weights=WEIGHTS,
    ),
    Metric(
        "face identity",
        "",
        "higher",
        ("dino face",),
        f"{DINO}, both cut to the face",
        _mean("dino face"),
        weights=WEIGHTS,
    ),
    Metric(
        "portrait distance",
        "of 255",
        "lower",
        ("portrait distance",),
        "mean colour difference of the blurred face to the reference, without the mouth",
        _mean("portrait distance"),
    ),
    Metric(
        "portrait distance slope",
        "of 255 per minute",
        "lower",
        ("portrait distance",),
        "straight line through it over time",
        _slope("portrait distance"),
    ),
)
