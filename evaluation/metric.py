"""The contract of a metric: a name, what it needs, and how its value is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..media.sound import MonoSound
from .tracks import Track

Better = Literal["higher", "lower", "near zero", "as it is"]
Verdict = Literal["good", "warn", "fail", "none"]
SOUND_RATE = 16_000


class NotMeasurable(ValueError):
    """This video has nothing that the metric could measure; the message says why."""


@dataclass(frozen=True)
class Layout:
    """How an engine cuts a video: frames per block and per latent, and the first frame that begins a block."""

    block: int
    latent: int
    first: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.latent <= self.block or self.block % self.latent or self.first < 0:
            raise ValueError(
                f"Give the frames per block as a multiple of the frames per latent, and a first frame from 0 on: "
                f"{self.block}, {self.latent} and {self.first} do not fit."
            )


@dataclass
class Observed:
    """All that was read from one video.

    Attributes:
        tracks: by the readers' names.
        missing: what could not be read, by the name that metrics ask for, with the reason as a sentence.
        sound: mono at 16 kHz.
        values: further facts: "asked" text and "said" text, "language", the embeddings of two voices.
    """

    fps: float
    seconds: float
    tracks: dict[str, Track] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    sound: MonoSound | None = None
    layout: Layout | None = None
    values: dict[str, object] = field(default_factory=dict)

    def lacks(self, need: str) -> str | None:
        """Why ``need`` is not there; None if it is."""
        there = {"sound": self.sound, "layout": self.layout}.get(need)
        if there is not None or need in self.tracks or need in self.values:
            return None
        return self.missing.get(need, f"Nothing gave the {need}.")


@dataclass(frozen=True)
class Metric:
    """One score of a video.

    Attributes:
        needs: names of tracks and facts; the score is skipped, with the reason, when one is missing.
        source: where the definition comes from.
        warn, fail: the values at which a score is no longer good, and at which it fails. None: never.
        weights: the file that the needs are read with, where a network is used.
    """

    name: str
    unit: str
    better: Better
    needs: tuple[str, ...]
    source: str
    compute: Callable[[Observed], float]
    warn: float | None = None
    fail: float | None = None
    weights: str = ""

    def verdict(self, value: float) -> Verdict:
        """How a value is judged against the limits."""
        if self.warn is None and self.fail is None:
            return "none"
        if self.better == "near zero":
            value = abs(value)
        sign = -1 if self.better == "higher" else 1
        if self.fail is not None and sign * value > sign * self.fail:
            return "fail"
        if self.warn is not None and sign * value > sign * self.warn:
            return "warn"
        return "good"


@dataclass(frozen=True)
class Score:
    """The value of a metric, or the reason why there is none."""

    metric: Metric
    value: float | None
    skipped: str = ""

    @property
    def verdict(self) -> Verdict:
        return "none" if self.value is None else self.metric.verdict(self.value)


def score(metric: Metric, seen: Observed) -> Score:
    """The score of ``seen``; nothing else takes the place of what is missing."""
    for need in metric.needs:
        if (reason := seen.lacks(need)) is not None:
            return Score(metric, None, reason)
    try:
        return Score(metric, float(metric.compute(seen)))
    except NotMeasurable as error:
        return Score(metric, None, str(error))


def by_name(metrics: tuple[Metric, ...]) -> Mapping[str, Metric]:
    """Metrics by name; ValueError where two share one."""
    names = {metric.name: metric for metric in metrics}
    if len(names) != len(metrics):
        raise ValueError("Two metrics share a name.")
    return names
