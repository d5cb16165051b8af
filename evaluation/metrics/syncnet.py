"""SyncNet's confidence, distance and offset."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metric import Metric, NotMeasurable, Observed

REACH = 15
SOURCE = "SyncNet v2 (Chung and Zisserman 2016), windows of 5 frames, offsets -15 to 15"


class Sync(NamedTuple):
    """What the distances of lips and sound say; ``offset`` in frames, above 0 where the picture comes late."""

    confidence: float
    distance: float
    offset: int


def mean_distances(lips: Tensor, sound: Tensor, reach: int = REACH) -> Tensor:
    """Mean distance ``[2 * reach + 1]`` of lips ``[N, D]`` to the sound ``[N, D]`` of ``reach`` frames before to
    ``reach`` after. Beyond its ends sound is zero, as in the published program."""
    count = min(len(lips), len(sound))
    padded = F.pad(sound[:count], (0, 0, reach, reach))
    return torch.stack(
        [
            F.pairwise_distance(lips[:count], padded[start : start + count]).mean()
            for start in range(2 * reach + 1)
        ]
    )


def sync_of(lips: Tensor, sound: Tensor) -> Sync:
    """Confidence (median less smallest mean distance), smallest mean distance, and the shift that has it."""
    found = mean_distances(lips, sound)
    best = int(found.argmin())
    return Sync(float(found.median() - found[best]), float(found[best]), REACH - best)


def _part(name: str):
    def compute(seen: Observed) -> float:
        lips, sound = seen.tracks["syncnet lips"].values, seen.tracks["syncnet sound"].values
        if min(len(lips), len(sound)) < 2 * REACH:
            raise NotMeasurable("SyncNet needs 35 frames or more.")
        return float(getattr(sync_of(lips, sound), name))

    return compute


NEEDS = ("syncnet lips", "syncnet sound")
WEIGHTS = "syncnet_v2.model"
METRICS = (
    Metric("Sync-C", "", "higher", NEEDS, SOURCE, _part("confidence"), warn=6, fail=4, weights=WEIGHTS),
    Metric("Sync-D", "", "lower", NEEDS, SOURCE, _part("distance"), weights=WEIGHTS),
    Metric(
        "SyncNet offset",
        "frames",
        "near zero",
        NEEDS,
        SOURCE,
        _part("offset"),
        warn=1,
        fail=3,
        weights=WEIGHTS,
    ),
)
