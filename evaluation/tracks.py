"""Numbers over the time of a video."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 4096
"""Values for which a growing track has room at once."""
LEAST_SECONDS = 1.0
"""Beginning and end of a track are this long at least, where the track allows it."""


@dataclass(frozen=True)
class Track:
    """``values`` ``[N, ...]`` at ``times`` ``[N]``, in seconds from the first frame."""

    times: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.times)

    def ends(self) -> tuple[Tensor, Tensor]:
        """The values of the first and of the last tenth (a second at least, half of the track at most)."""
        span = float(self.times[-1] - self.times[0])
        part = min(max(span / 10, LEAST_SECONDS), span / 2)
        return (
            self.values[self.times <= self.times[0] + part],
            self.values[self.times >= self.times[-1] - part],
        )

    def per_minute(self) -> float:
        """The slope of the straight line through values ``[N]``, per minute."""
        minutes = (self.times - self.times.mean()) / 60
        values = self.values.double() - self.values.double().mean()
        return float((minutes * values).sum() / minutes.square().sum())

    def even(self, fps: float) -> Tensor:
        """Values ``[N]`` at even distances of 1/``fps`` seconds, by straight lines between those that there are."""
        wanted = torch.arange(int(float(self.times[-1] - self.times[0]) * fps + 0.5) + 1) / fps
        wanted = (wanted.double() + self.times[0]).clamp(max=self.times[-1])
        after = torch.searchsorted(self.times, wanted).clamp(1, len(self) - 1)
        before = after - 1
        share = (wanted - self.times[before]) / (self.times[after] - self.times[before])
        values = self.values.double()
        return values[before] + (values[after] - values[before]) * share


class Growing:
    """A track that grows, in memory of its own.

    Many small tensors would come to lie between the frames of a video, and memory of frames that are gone could not be
    used again: ten minutes would take 13 GB.
    """

    def __init__(self) -> None:
        self._count = 0
        self._times, self._values = torch.empty(0, dtype=torch.float64), torch.empty(0)

    def __len__(self) -> int:
        return self._count

    def add(self, part: Track) -> None:
        """Append a track."""
        count = self._count + len(part)
        if count > len(self._times) or not self._count:
            size = max(LEAST, 2 * count)
            self._times = self._larger(self._times, part.times, size)
            self._values = self._larger(self._values, part.values, size)
        self._times[self._count : count] = part.times
        self._values[self._count : count] = part.values
        self._count = count

    def _larger(self, old: Tensor, like: Tensor, size: int) -> Tensor:
        new = like.new_empty((size, *like.shape[1:]))
        if self._count:
            new[: self._count] = old[: self._count]
        return new

    def track(self) -> Track:
        """All of it so far."""
        return Track(self._times[: self._count], self._values[: self._count])
