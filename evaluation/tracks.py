"""Numbers over the time of a video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

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


def joined(parts: Iterable[Track]) -> Track:
    """Tracks one after the other as one."""
    parts = list(parts)
    return Track(torch.cat([part.times for part in parts]), torch.cat([part.values for part in parts]))
