"""All metrics, in the order in which reports show them."""

from __future__ import annotations

from ..metric import Metric, by_name
from . import (
    blinks,
    colour,
    expression,
    flicker,
    head,
    identity,
    quality,
    seams,
    sharpness,
    silence,
    speed,
    sync,
    syncnet,
    voice,
    words,
)

METRICS: tuple[Metric, ...] = (
    *sync.METRICS,
    *syncnet.METRICS,
    *silence.METRICS,
    *identity.METRICS,
    *flicker.METRICS,
    *seams.METRICS,
    *sharpness.METRICS,
    *colour.METRICS,
    *expression.METRICS,
    *blinks.METRICS,
    *head.METRICS,
    *quality.METRICS,
    *speed.METRICS,
    *voice.METRICS,
    *words.METRICS,
)
BY_NAME = by_name(METRICS)
