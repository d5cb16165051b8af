"""Smooth curves as cubic pieces, and the way from the head's space to the picture's pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import skia

Points = np.ndarray
"""[n, 3]: x to the right, y down, z towards the viewer; the unit is half of a head's width."""
Cubic = np.ndarray
"""[3 k + 1, 3]: a start point, then two handles and an end point for each of k pieces."""

_EASE = 0.36


def points(rows: Iterable[Sequence[float]], z: float = 0.0) -> Points:
    """Rows of (x, y) or (x, y, z) as an array; `z` where a row has none."""
    return np.array([(*row, z)[:3] for row in rows], dtype=np.float64)


def by(x: float, y: float, z: float = 0.0) -> Points:
    """A shift, to be added to points."""
    return np.array((x, y, z))


def oval(x: float, y: float, half_width: float, half_height: float, z: float = 0.0) -> Points:
    """Eight points about an ellipse."""
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    return np.stack([x + half_width * np.cos(turn), y + half_height * np.sin(turn), np.full(8, z)], 1)


def mirrored(right: Points) -> Points:
    """A closed outline from its right half (first point at the top middle, last at the bottom middle)."""
    left = right[-2:0:-1] * (-1, 1, 1)
    return np.concatenate([right, left])


def smooth(p: Points, closed: bool = True, sharp: Sequence[int] = ()) -> Cubic:
    """The curve through `p`; at the indices `sharp` it has corners. Handles are as long as the gaps they span."""
    ring = np.concatenate([p[-1:], p, p[:1]])
    step = ring[1:] - ring[:-1]
    leaving, arriving = step[1:], step[:-1]
    along = _unit(leaving + arriving)
    start, end = along, along
    corners = [i % len(p) for i in sharp] + ([] if closed else [0, len(p) - 1])
    if corners:
        start, end = along.copy(), along.copy()
        start[corners], end[corners] = _unit(leaving[corners]), _unit(arriving[corners])
    reach = _EASE * np.sqrt((leaving * leaving).sum(1, keepdims=True))
    after = ring[2:]
    curve = np.empty((3 * len(p) + 1, 3))
    curve[0] = p[0]
    curve[1::3] = p + start * reach
    curve[2::3] = after
    curve[2::3] -= np.concatenate([end[1:], end[:1]]) * reach
    curve[3::3] = after
    return curve if closed else curve[:-3]


def polyline(cubic: Cubic, per_piece: int = 8) -> Points:
    """Points along a cubic curve."""
    t = np.arange(per_piece)[:, None, None] / per_piece
    a, b, c, d = cubic[:-1:3], cubic[1::3], cubic[2::3], cubic[3::3]
    run = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return np.concatenate([run.transpose(1, 0, 2).reshape(-1, 3), cubic[-1:]])


def ribbon(spine: Points, widths: Sequence[float]) -> Cubic:
    """A stroke of varying width (full width at each point of `spine`), seen from the front."""
    heading = np.gradient(spine[:, :2], axis=0)
    side = np.stack([-heading[:, 1], heading[:, 0], np.zeros(len(spine))], 1)
    side = _unit(side) * np.asarray(widths)[:, None] / 2
    return smooth(np.concatenate([spine + side, (spine - side)[::-1]]), sharp=(0, -1))


def scallops(p: Points, bump: float, depth: float, closed: bool = False) -> Points:
    """The outline `p` with round bumps of about the length `bump` and the height `depth`, away from the origin."""
    line = polyline(smooth(p, closed))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    count = max(2, round(length[-1] / bump))
    at = np.linspace(0, length[-1], 4 * count + 1)
    run = np.stack([np.interp(at, length, line[:, i]) for i in range(3)], 1)
    heading = np.gradient(run[:, :2], axis=0)
    normal = _unit(np.stack([heading[:, 1], -heading[:, 0], np.zeros(len(run))], 1))
    high = depth * np.abs(np.sin(np.arange(len(run)) * np.pi / 4)) ** 0.7
    return (run + normal * high[:, None])[: -1 if closed else None]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt((v * v).sum(1, keepdims=True)), 1e-9)


class View:
    """From a part's own space to pixels: turned about `pivot`, moved, scaled; without perspective."""

    def __init__(
        self, scale: float, x: float, y: float, yaw=0.0, pitch=0.0, roll=0.0, pivot=(0.0, 0.0, 0.0)
    ) -> None:
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        whole = tilt @ nod @ turn
        self.scale = scale
        self.matrix = scale * whole[:2].T
        middle = np.asarray(pivot, dtype=np.float64)
        self.origin = scale * middle[:2] + (x, y) - middle @ self.matrix

    def flat(self, p: np.ndarray) -> np.ndarray:
        """Points [n, 3] as pixels [n, 2]."""
        return p @ self.matrix + self.origin

    def path(self, cubic: Cubic, closed: bool = True) -> skia.Path:
        """A cubic curve as a path in pixels."""
        flat = self.flat(cubic).tolist()
        path = skia.Path()
        path.moveTo(*flat[0])
        for i in range(1, len(flat) - 2, 3):
            path.cubicTo(*flat[i], *flat[i + 1], *flat[i + 2])
        if closed:
            path.close()
        return path

    def shape(self, p: Points, closed: bool = True, sharp: Sequence[int] = ()) -> skia.Path:
        """The smooth curve through points that change from frame to frame."""
        return self.path(smooth(p, closed, sharp), closed)

    def spot(self, x: float, y: float, z: float = 0.0) -> tuple[float, float]:
        """One point in pixels."""
        return tuple((np.array((x, y, z)) @ self.matrix + self.origin).tolist())
