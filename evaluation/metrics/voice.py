"""Pitch of a voice, and its likeness to another."""

from __future__ import annotations

import torch

from ..metric import Metric, NotMeasurable, Observed

LEAST = 20
"""Voiced windows, of 10 ms each."""


def _voiced(seen: Observed) -> torch.Tensor:
    values = seen.tracks["pitch"].values.double()
    if len(values) < LEAST:
        raise NotMeasurable("Hardly any voice is heard in this sound.")
    return values


def _median(seen: Observed) -> float:
    return float(_voiced(seen).median())


def _spread(seen: Observed) -> float:
    return float((12 * torch.log2(_voiced(seen))).std())


def _likeness(seen: Observed) -> float:
    return float(seen.values["voice"] @ seen.values["reference voice"])


METRICS = (
    Metric("F0", "Hz", "as it is", ("pitch",), "median pitch by YIN", _median),
    Metric("F0 spread", "semitones", "as it is", ("pitch",), "standard deviation of the pitch", _spread),
    Metric(
        "speaker similarity",
        "",
        "higher",
        ("voice", "reference voice"),
        "cosine of WavLM's speaker vectors",
        _likeness,
        warn=0.75,
        fail=0.65,
        weights="microsoft/wavlm-base-plus-sv",
    ),
)
