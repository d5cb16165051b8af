"""What the styles of hair are built from: outlines, hairlines, strands, shine."""

from __future__ import annotations

import numpy as np

from ..curves import Cubic, Points, by, points, ribbon, smooth
from ..head import surface
from ..person import Person
from .paint import BASE, DARK, Hair


def crown(top: float, side: float, end: float, lean: float = 0.0) -> Points:
    """The outline over the head from the left end to the right one; `lean` shifts its top sideways."""
    right = [
        (0.5 + lean, -1.27 - top),
        (0.93 + 0.85 * side + 0.5 * lean, -0.86 - 0.42 * top),
        (1.03 + side, -0.32),
        (1.015 + 0.9 * side, end),
    ]
    left = [
        (-1.015 - 0.9 * side, end),
        (-1.03 - side, -0.32),
        (-0.93 - 0.85 * side + 0.5 * lean, -0.86 - 0.42 * top),
        (-0.5 + lean, -1.27 - top),
    ]
    return points([*left, (lean, -1.36 - 1.06 * top), *right], -0.06)


def hairline(*rows: tuple[float, float]) -> Points:
    """A hairline: points that lie on the face's surface."""
    return points([(x, y, surface(x, y) + 0.05) for x, y in rows])


def volume(over: Points, line: Points, soft: tuple[int, ...] = (), sharp: tuple[int, ...] = ()) -> Cubic:
    """The volume between an outline (left to right) and a hairline (right to left)."""
    corners = [0, len(over) - 1, len(over), len(over) + len(line) - 1, *(len(over) + i for i in sharp)]
    return smooth(np.concatenate([over, line]), sharp=[c for c in corners if c not in soft])


def lining(over: Points) -> list[tuple[Cubic, int]]:
    """All that an outline encloses, as the ground behind head and ears."""
    return [
        (
            smooth(
                np.concatenate([over, points([(0.85, 0.35), (-0.85, 0.35)], -0.1)]), sharp=(0, len(over) - 1)
            ),
            DARK,
        )
    ]


def capped(over: Points, cap: Cubic, **more: list) -> Hair:
    """Hair of one volume below the outline `over`, which throws its shadow on the face; `more` are other fields."""
    return Hair(front=[(cap, BASE)], under=lining(over), shade=[cap], **more)


def flip(p: Points) -> Points:
    return p[::-1] * (-1, 1, 1)


def parted_at(p: Points, part: int) -> Points:
    """Points that were given for a parting on the left (part -1), in the same order from right to left."""
    return p if part < 0 else flip(p)


def strokes(start: Points, end: Points, count: int, width: float = 0.03, sag: float = 0.0) -> list[Cubic]:
    """Thin strokes from one curve to another."""
    found = []
    for k in range(count):
        t = (k + 0.5) / count
        a, b = along(start, t), along(end, t)
        middle = (a + b) / 2 + by(0, -sag, 0.08)
        found.append(ribbon(np.stack([a, middle, b]), (0.3 * width, width, 0.2 * width)))
    return found


def along(p: Points, t: float) -> np.ndarray:
    at = t * (len(p) - 1)
    return np.array([np.interp(at, np.arange(len(p)), p[:, i]) for i in range(3)])


def sheen(over: Points, line: Points, who: Person, depth: float = 0.4, thick: float = 0.1) -> Cubic:
    """A band of shine between outline and hairline, on the side of the light."""
    span = np.linspace(0.28, 0.66, 6) if who.light > 0 else np.linspace(0.72, 0.34, 6)
    turn = line[::-1]
    spine = np.stack([(1 - depth) * along(over, t) + depth * along(turn, t) for t in span])
    spine[:, 2] += 0.2
    spine[:, 0] += 0.12 * who.light
    return ribbon(spine, thick * np.array([0.05, 0.7, 1.0, 0.9, 0.55, 0.05]))


def coil(x: float, y: float, r: float, width: float = 0.032) -> Cubic:
    turn = np.linspace(0.3, 3.4, 6)
    spine = np.stack([x + r * np.cos(turn), y - r * np.sin(turn), np.full(6, 0.35)], 1)
    return ribbon(spine, width * np.array([0.2, 0.8, 1, 1, 0.7, 0.1]))


ROUND = (
    (0.97, 0.12),
    (0.9, -0.2),
    (0.8, -0.52),
    (0.5, -0.74),
    (0.0, -0.8),
    (-0.5, -0.74),
    (-0.8, -0.52),
    (-0.9, -0.2),
    (-0.97, 0.12),
)
HIGH = (
    (0.97, 0.1),
    (0.91, -0.22),
    (0.84, -0.6),
    (0.6, -0.86),
    (0.0, -0.93),
    (-0.6, -0.86),
    (-0.84, -0.6),
    (-0.91, -0.22),
    (-0.97, 0.1),
)
