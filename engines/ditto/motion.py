"""Motions of faces: what the extractor reads, what the motion model writes, and the keypoints that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..parts.face.keypoints import rotation
from ..parts.face.motion_extractor import ANGLE_BINS

ANGLES = ("pitch", "yaw", "roll")
POSE_COLUMNS = 202
"""Columns of the motion vector before the expression."""
POINTS = 21
_PARTS = (("scale", 1), ("pitch", ANGLE_BINS), ("yaw", ANGLE_BINS), ("roll", ANGLE_BINS), ("translation", 3))


@dataclass(frozen=True)
class FaceMotion:
    """Motions of n faces.

    Attributes:
        scale: ``[n, 1]``.
        pitch, yaw, roll: logits of 66 bins ``[n, 66]`` as the extractor gives them, or degrees ``[n, 1]``.
        translation: ``[n, 3]``.
        expression: shifts of the keypoints, ``[n, 63]``.
        keypoints: canonical keypoints ``[n, 63]``; None for what the motion model makes.
    """

    scale: Tensor
    pitch: Tensor
    yaw: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor
    keypoints: Tensor | None = None

    @classmethod
    def of_heads(cls, heads: Mapping[str, Tensor]) -> FaceMotion:
        """From the motion extractor's heads by name."""
        names = ("scale", "pitch", "yaw", "roll", "t", "exp", "kp")
        return cls(*(heads[name] for name in names))

    @classmethod
    def of_vectors(cls, vectors: Tensor) -> FaceMotion:
        """From motion vectors ``[n, 265]``, which have the scale minus one."""
        scale, *parts = vectors.split([*(width for _, width in _PARTS), 3 * POINTS], -1)
        return cls(scale + 1, *parts)

    @classmethod
    def concat(cls, motions: Sequence[FaceMotion]) -> FaceMotion:
        """One after another; all have keypoints."""
        return cls(*(torch.cat([getattr(m, field.name) for m in motions]) for field in fields(cls)))

    def vectors(self) -> Tensor:
        """Motion vectors ``[n, 265]``; angles have to be logits."""
        parts = (self.pitch, self.yaw, self.roll, self.translation, self.expression)
        return torch.cat([self.scale - 1, *parts], -1)

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, index: slice | list[int] | Tensor) -> FaceMotion:
        return self._each(lambda part: part[index])

    def to(self, device: torch.device | str) -> FaceMotion:
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> FaceMotion:
        parts = (getattr(self, field.name) for field in fields(self))
        return FaceMotion(*(None if part is None else change(part) for part in parts))

    def smoothed(self, frames: int) -> FaceMotion:
        """The centred mean of so many frames, of every part; for the frames of a source video."""
        return self._each(lambda part: centred_mean(part, frames))

    def points(self) -> Tensor:
        """The keypoints in the picture, ``[n, 21, 3]``, where [-1, 1] spans it: turned, shifted by the expression,
        scaled, then moved in x and y."""
        angles = torch.cat([degrees(getattr(self, name)) for name in ANGLES], -1)
        canonical, shifts = (part.unflatten(-1, (POINTS, 3)) for part in (self.keypoints, self.expression))
        points = (canonical @ rotation(angles) + shifts) * self.scale[..., None]
        return points + F.pad(self.translation[:, :2], (0, 1))[:, None]


def degrees(angle: Tensor) -> Tensor:
    """Degrees ``[n, 1]`` of the logits of 66 bins ``[n, 66]``; any other width is in degrees already."""
    if angle.shape[-1] != ANGLE_BINS:
        return angle
    bins = torch.arange(ANGLE_BINS, device=angle.device, dtype=angle.dtype)
    return (angle.softmax(-1) * bins).sum(-1, keepdim=True) * 3 - 97.5


def centred_mean(x: Tensor, frames: int) -> Tensor:
    """The mean of every row of ``[n, C]`` with its neighbours, ``frames // 2`` to either side where there are any."""
    reach = frames // 2
    if reach == 0:
        return x
    mean = F.avg_pool1d(
        x.T[None], 2 * reach + 1, stride=1, padding=reach, ceil_mode=False, count_include_pad=False
    )
    return mean[0].T


def mirrored(index: int, count: int) -> int:
    """The frame of a source of ``count`` frames that stands for frame ``index``: forwards, backwards, forwards."""
    turn, place = divmod(index, count)
    return count - 1 - place if turn % 2 else place
