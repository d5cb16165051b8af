"""What is read off a talker's pixels. Nothing here knows the model: a drawn video is measured in the same way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS
from avatar.engines.parts.face.boxes import Box
from avatar.engines.parts.wan.geometry import TEMPORAL_STRIDE
from avatar.evaluation.clip import Piece
from avatar.evaluation.correlation import lagged_correlation
from avatar.evaluation.metric import Layout
from avatar.evaluation.metrics.seams import seam_changes
from avatar.evaluation.readers.change import Change
from avatar.evaluation.readers.portrait import face_distance
from avatar.evaluation.readers.sharpness import Sharpness

from training.figures.measure import SHUT as BLINKING
from training.figures.person import boxes

from .checkpoint import floats
from .people import Speaking

LAYOUT = Layout(BLOCK_FRAMES, TEMPORAL_STRIDE, BLOCK_FRAMES - PRE_ROLL_FRAMES)
SHUT, WIDE = 0.02, 0.3
"""Openings below and above which speech asks for a closed and for an open mouth."""
FIRST = 9
"""Frames of the first block."""
JOINTS = (
    "change inside latents",
    "change between latents of a block",
    "change between blocks",
    "sharpness of the first frames",
    "sharpness of later frames",
)
EYES = ("sharpness of open eyes, of 1", "sharpness of eyes in blinks, of 1")


@dataclass(frozen=True)
class Sync:
    """How a mouth follows its speech: correlation at the best lag, that lag in frames (late is positive), and the
    correlation with somebody else's speech at lag 0."""

    right: float
    lag: int
    wrong: float


def lips(people: Sequence[Speaking], videos: Sequence[Tensor]) -> dict:
    """Lip sync of videos uint8 [F, S, S, 3] of `people`, by language, and the mouth where it should rest or be open."""
    synced: dict[str, list[Sync]] = defaultdict(list)
    shut, wide = [], []
    for i, (one, video) in enumerate(zip(people, videos, strict=True)):
        read = one.reader.mouth(floats(video))[:, 0]
        right, lag = lagged_correlation(read, one.opening)
        wrong, _ = lagged_correlation(read, people[i - 1].opening, 0)
        synced[one.language].append(Sync(right, lag, wrong))
        shut += read[one.opening < SHUT].tolist()
        wide += read[one.opening > WIDE].tolist()
    every = [each for found in synced.values() for each in found]
    return {
        "lip sync": _mean(each.right for each in every),
        **{f"lip sync, {name}": _mean(each.right for each in found) for name, found in synced.items()},
        "lip sync, least": _round(min(each.right for each in every)),
        "lags (frames)": [each.lag for each in every],
        "with somebody else's speech": _mean(each.wrong for each in every),
        "opening in pauses": _mean(shut),
        "opening where speech opens it": _mean(wide),
    }


def looks(people: Sequence[Speaking], videos: Sequence[Tensor]) -> dict:
    """Means over videos uint8 [F, S, S, 3]: change at the joints of the engine, sharpness, and eyes against drawn
    ones with the same lids; None for blinks where nobody blinks."""
    found: dict[str, list[float]] = defaultdict(list)
    for one, video in zip(people, videos, strict=True):
        for name, value in joints(video).items():
            found[name].append(value)
        for name, value in _eyes(one, video).items():
            found[name].append(value)
    return {name: _mean(found[name]) for name in (*JOINTS, *EYES)}


def joints(video: Tensor) -> dict[str, float]:
    """Mean change from frame to frame of uint8 [F, S, S, 3], and sharpness early and late.

    Four frames share a latent, so a seam shows only where a border of blocks is compared with one of latents.
    """
    piece = Piece(torch.arange(len(video)).double() / FPS, video)
    change = seam_changes(Change().read(piece).values, LAYOUT)
    sharp = Sharpness().read(piece).values
    values = (*change, sharp[:FIRST], sharp[FIRST:])
    return {name: part.mean().item() for name, part in zip(JOINTS, values, strict=True)}


def _eyes(one: Speaking, video: Tensor) -> dict[str, float]:
    frames = floats(video)
    kept, shut = one.reader.kept(frames), one.reader.blink(frames) > BLINKING
    parts = zip(EYES, (kept[~shut], kept[shut]), strict=True)
    return {name: values.mean().item() for name, values in parts if len(values)}


def strangeness(one: Speaking, frames: Tensor) -> dict[str, float]:
    """How far frames uint8 [F, S, S, 3] are from the person, of 255: from the portrait, and from the drawing of this
    person that is most like each."""
    seen, (left, top, right, bottom) = floats(frames), boxes(one.who)["mouth"]
    mouth = Box(*(round(edge * one.portrait.shape[-1]) for edge in (left, top, right, bottom)))
    portrait = (one.portrait[0, :, 0] + 1) * 127.5
    return {
        "to the portrait": _mean(face_distance((frame + 1) * 127.5, portrait, mouth) for frame in seen),
        "to the nearest drawing": _mean(one.reader.strangeness(seen).tolist()),
    }


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return _round(mean(values)) if values else None


def _round(value: float) -> float:
    return float(f"{value:.4g}")
