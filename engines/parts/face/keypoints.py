"""Head poses as numbers: keypoints from them, drawings for the pose guider, and face boxes.

Keypoints are in units where [-1, 1] spans the picture.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

DRAWN_POINTS = (1, 2, 3, 4, 12, 15, 20)
COLOURS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 85))
DISC_RADIUS = 4  # pixels, whatever the canvas
TRANSLATION_GAIN = 0.5


@dataclass(frozen=True)
class Pose:
    """Poses of n faces: canonical keypoints ``[n, 21, 3]``, pitch/yaw/roll in degrees ``[n, 3]``,
    translation ``[n, 3]``, scale ``[n, 1]``."""

    keypoints: Tensor
    angles: Tensor
    translation: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, index: slice) -> Pose:
        return Pose(self.keypoints[index], self.angles[index], self.translation[index], self.scale[index])

    def to(self, device: torch.device | str) -> Pose:
        return Pose(
            *(part.to(device) for part in (self.keypoints, self.angles, self.translation, self.scale))
        )

    def project(self) -> Tensor:
        """Posed keypoints ``[n, 21, 3]``."""
        points = (self.keypoints @ rotation(self.angles)) * self.scale[:, :, None]
        shift = torch.nn.functional.pad(self.translation[:, :2], (0, 1))
        return points + shift[:, None]


def rotation(degrees: Tensor) -> Tensor:
    """Rotation matrices ``[n, 3, 3]`` for row vectors, of pitch, yaw and roll in degrees ``[n, 3]``."""
    radians = torch.deg2rad(degrees)
    (sx, sy, sz), (cx, cy, cz) = radians.sin().unbind(-1), radians.cos().unbind(-1)
    one, zero = torch.ones_like(sx), torch.zeros_like(sx)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return (about_z @ about_y @ about_x).transpose(-1, -2)


def drive(reference: Pose, driving: Pose, first_translation: Tensor, strength: float = 1.0) -> Pose:
    """The reference's head with the driving frames' angles and (damped) movement.

    Args:
        first_translation: ``[1, 3]``, the translation of the driving video's first frame.
        strength: 1 takes the driving pose as it is, 0 keeps the reference's.
    """
    n = len(driving)
    angles = driving.angles
    moved = (driving.translation - first_translation) * TRANSLATION_GAIN
    if strength != 1.0:
        angles = reference.angles + strength * (angles - reference.angles)
        moved = strength * moved
    return Pose(
        reference.keypoints.expand(n, -1, -1),
        angles,
        moved + reference.translation,
        reference.scale.expand(n, -1),
    )


def ramp(start: Tensor, end: Tensor, count: int) -> Tensor:
    """``count`` linear steps ``[count, ...]`` from start ``[1, ...]`` towards end, which is left out."""
    weights = torch.arange(count, device=start.device, dtype=torch.float32) / count
    weights = weights.to(start.dtype).view(-1, *(1,) * (start.dim() - 1))
    return start * (1 - weights) + end * weights


def ramp_poses(start: Pose, end: Pose, count: int) -> Pose:
    """``count`` poses from ``start`` towards ``end`` (one pose each), the end point left out."""
    return Pose(
        start.keypoints.expand(count, -1, -1),
        ramp(start.angles, end.angles, count),
        ramp(start.translation, end.translation, count),
        ramp(start.scale, end.scale, count),
    )


@functools.cache
def _constant(values: tuple, device: torch.device) -> Tensor:
    """A constant on a device, copied once, because a copy waits for all that the device has to do."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def _pixels(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Integer x and y ``[n, 7]`` (as floats) of the drawn points, truncated towards zero."""
    chosen = points.index_select(1, _constant(DRAWN_POINTS, points.device))[..., :2].float() * 0.5 + 0.5
    return (chosen[..., 0] * width).trunc(), (chosen[..., 1] * height).trunc()


def draw(points: Tensor, height: int, width: int) -> Tensor:
    """Coloured discs on black ``[n, 3, height, width]`` in [0, 1] for keypoints ``[n, 21, 3]``."""
    x, y = _pixels(points, height, width)
    rows = torch.arange(height, device=points.device, dtype=torch.float32)
    columns = torch.arange(width, device=points.device, dtype=torch.float32)
    down = (rows - y[..., None]) ** 2
    across = (columns - x[..., None]) ** 2
    colours = _constant(COLOURS, points.device) / 255
    canvas = points.new_zeros((len(points), 3, height, width), dtype=torch.float32)
    for i, colour in enumerate(colours):
        disc = (down[:, i, :, None] + across[:, i, None, :]) <= DISC_RADIUS**2
        canvas += disc[:, None] * colour[:, None, None]
    return canvas.clamp_(0, 1)


def face_boxes(points: Tensor, height: int, width: int) -> Tensor:
    """Face boxes ``[n, 4]`` (x1, y1, x2, y2; int64) around the drawn points, clamped to the picture."""
    x, y = _pixels(points, height, width)
    cx, cy = x.mean(-1), y.mean(-1)
    side = (cy - y.amin(-1)) * 2 * 1.7
    near, far = side / 2 * 0.95, side / 2 * 1.05
    right, bottom = width - 1, height - 1
    corners = ((cx - near, right), (cy - near, bottom), (cx + far, right), (cy + far, bottom))
    return torch.stack([value.clamp(0, most) for value, most in corners], -1).long()
