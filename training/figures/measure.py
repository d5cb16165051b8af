"""Reads mouth and lids off finished pixels of a known person.

Nothing of a model is used: the reader draws this person in many poses, with the mouth, the lids and the head anywhere,
and learns from them what the pixels say (kernel ridge regression on their principal components).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .figure import Figure
from .motion import tongue_of
from .person import Box, Person, boxes
from .pose import Motion, still

COMPONENTS = 96
RIDGE = 3e-3
MARGIN = 0.05
"""How far beyond its box a part may move, in parts of the picture."""
SHUT = 0.4
"""Lids that are further shut blink."""
COARSE = 64
"""Pixels of the pictures in which a person is compared with drawings."""


class Reader:
    """Reads one person at one picture size; `count` drawings are made for it, about 12 ms each."""

    def __init__(self, who: Person, size: int, count: int = 900, seed: int = 0) -> None:
        self.who, self.size = who, size
        motion = _anyhow(count, np.random.default_rng(seed))
        drawn = _tensor(Figure(who, size).frames(motion))
        mouth = np.stack([motion[name] for name in ("open", "wide", "teeth", "smile")], 1)
        lids = np.stack([motion["blink"], self.sharpness(drawn).numpy()], 1)
        self._mouth = _Regression.fit(self._crop(drawn, "mouth"), mouth)
        self._lids = _Regression.fit(self._crop(drawn, "eyes"), lids)
        self._coarse = self._without_mouth(drawn)

    def mouth(self, video: Tensor) -> Tensor:
        """Opening, width, teeth and smile [F, 4] of `video` [F, 3, S, S] in [-1, 1]."""
        return self._mouth(self._crop(video, "mouth"))

    def blink(self, video: Tensor) -> Tensor:
        """How far the lids are shut [F], 0 .. 1."""
        return self._lids(self._crop(video, "eyes"))[:, 0].clamp(0, 1)

    def sharpness(self, video: Tensor) -> Tensor:
        """Mean difference of neighbouring pixels about the eyes, per frame [F]."""
        part = _cut(video.float().cpu(), boxes(self.who)["eyes"], MARGIN / 2)
        return part.diff(dim=-1).abs().mean((1, 2, 3)) + part.diff(dim=-2).abs().mean((1, 2, 3))

    def kept(self, video: Tensor) -> Tensor:
        """Sharpness about the eyes [F] in parts of what a drawing with the same eyes has."""
        return self.sharpness(video) / self._lids(self._crop(video, "eyes"))[:, 1]

    def lid_sharpness(self, video: Tensor) -> dict[str, float]:
        """Sharpness about the eyes in parts of what a drawing with the same eyes has, where they are open (`open`)
        and where they blink (`blink`: more than 0.4 shut). ValueError for a video without one of them."""
        ratio, closed = self.kept(video), self.blink(video) > SHUT
        if not closed.any() or closed.all():
            raise ValueError("Give a video in which the eyes blink and open again.")
        return {"open": float(ratio[~closed].mean()), "blink": float(ratio[closed].mean())}

    def strangeness(self, video: Tensor) -> Tensor:
        """Mean colour difference, 0 to 255, of each frame [F] to the drawing of this person that is most like it, both
        coarse and without the mouth. So a head that turns is no stranger, and another person is one."""
        seen = self._without_mouth(video)
        return torch.cdist(seen, self._coarse, p=1).amin(1) * (127.5 / seen.shape[1])

    def _without_mouth(self, video: Tensor) -> Tensor:
        """Coarse pictures as rows of numbers [F, n]."""
        self._check(video)
        coarse = F.adaptive_avg_pool2d(video.float().cpu(), COARSE)
        keep = torch.ones(COARSE, COARSE, dtype=torch.bool)
        keep[_place(boxes(self.who)["mouth"], COARSE, MARGIN / 2)] = False
        return coarse[:, :, keep].flatten(1)

    def _check(self, video: Tensor) -> None:
        if video.shape[-1] != self.size:
            raise ValueError(
                f"Give pictures of {self.size} pixels to this reader: these have {video.shape[-1]}."
            )

    def _crop(self, video: Tensor, part: str) -> Tensor:
        """Rows of numbers [F, n]: the part and its surroundings at a quarter of a 512 picture's detail."""
        self._check(video)
        cut = _cut(video.float().cpu(), boxes(self.who)[part], MARGIN)
        return F.avg_pool2d(cut, max(1, self.size // 128)).flatten(1)


@dataclass(frozen=True)
class _Regression:
    """From pixels to numbers by way of the examples that look alike."""

    middle: Tensor
    axes: Tensor
    seen: Tensor
    reach: Tensor
    weights: Tensor
    offset: Tensor

    @classmethod
    def fit(cls, pixels: Tensor, targets: np.ndarray) -> _Regression:
        middle = pixels.mean(0)
        axes = torch.pca_lowrank(pixels - middle, min(COMPONENTS, len(pixels)), center=False)[2]
        seen = ((pixels - middle) @ axes).double()
        reach = torch.cdist(seen, seen).median()
        wanted = torch.from_numpy(targets).double()
        offset = wanted.mean(0)
        kernel = torch.exp(-(torch.cdist(seen, seen) / reach).square())
        weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(kernel)), wanted - offset)
        return cls(middle, axes, seen, reach, weights, offset)

    def __call__(self, pixels: Tensor) -> Tensor:
        place = ((pixels - self.middle) @ self.axes).double()
        kernel = torch.exp(-(torch.cdist(place, self.seen) / self.reach).square())
        return (kernel @ self.weights + self.offset).float()


def _anyhow(count: int, rng: np.random.Generator) -> Motion:
    """Poses of all kinds that speech brings; a third of the mouths nearly shut, half of the eyes open."""
    motion = still(count)

    def some(low: float, high: float, share: float) -> np.ndarray:
        return rng.uniform(low, high, count) * (rng.random(count) < share)

    motion["open"] = rng.random(count) ** 1.5
    motion["open"][rng.random(count) < 0.15] = 0.0
    motion["wide"], motion["teeth"] = rng.uniform(-1, 1, count), some(0, 1, 0.6)
    motion["tongue"] = tongue_of(np.stack([motion["open"], motion["wide"], motion["teeth"]], 1))
    motion["smile"], motion["cheek"] = rng.uniform(-0.2, 1, count), rng.uniform(0, 0.9, count)
    motion["blink"] = some(0, 1, 0.55)
    motion["blink"][rng.random(count) < 0.1] = 1.0
    motion["brow"], motion["frown"] = rng.uniform(-0.3, 1, count), some(0, 0.5, 0.4)
    motion["gaze_x"], motion["gaze_y"] = (
        rng.normal(0, 0.3, count).clip(-1, 1),
        rng.normal(0, 0.2, count).clip(-1, 1),
    )
    for name, spread in (("yaw", 0.13), ("pitch", 0.06), ("roll", 0.06), ("dx", 0.04), ("dy", 0.02)):
        motion[name] = (spread * rng.normal(size=count)).clip(-2.2 * spread, 2.2 * spread)
    return motion


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _cut(video: Tensor, box: Box, margin: float) -> Tensor:
    return video[(slice(None), slice(None), *_place(box, video.shape[-1], margin))]


def _place(box: Box, size: int, margin: float) -> tuple[slice, slice]:
    """Rows and columns of a box and its margin."""
    left, top, right, bottom = (
        round(edge * size) for edge in (*(e - margin for e in box[:2]), *(e + margin for e in box[2:]))
    )
    return slice(max(top, 0), bottom), slice(max(left, 0), right)
