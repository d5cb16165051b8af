"""Hair that hangs down."""

from __future__ import annotations

import numpy as np

from ..curves import Points, by, points, ribbon, smooth
from ..person import Person
from .paint import BASE, DARK, Hair
from .strands import crown, hairline, lining, sheen, volume


def bob(who: Person) -> Hair:
    """Straight to the jaw, with a fringe."""
    v = 0.1 * who.volume
    over = crown(0.17 * who.volume, v, 0.3)
    fringe = hairline(
        (0.9, -0.18), (0.78, -0.3), (0.4, -0.34), (0.0, -0.36), (-0.4, -0.34), (-0.78, -0.3), (-0.9, -0.18)
    )
    cap = volume(over, fringe)
    front = []
    for side in (-1, 1):
        lock = points(
            [
                (0.8, -0.55, 0.3),
                (1.02 + v, -0.4, 0),
                (1.12 + v, 0.2, 0),
                (1.16 + v, 0.86, 0.06),
                (0.92, 1.0, 0.15),
                (0.74, 0.92, 0.22),
                (0.86, 0.6, 0.25),
                (0.88, 0.1, 0.34),
            ]
        ) * (side, 1, 1)
        front.append((smooth(lock, sharp=(5,)), BASE))
    back = smooth(
        points(
            [
                (-1.0, -0.6),
                (0, -1.1),
                (1.0, -0.6),
                (1.16 + v, 0.3),
                (1.14 + v, 0.98),
                (0.6, 1.1),
                (-0.6, 1.1),
                (-1.14 - v, 0.98),
                (-1.16 - v, 0.3),
            ],
            -0.35,
        ),
        sharp=(4, 7),
    )
    tips = [(x, -0.38, 0.86) for x in (-0.62, -0.36, -0.12, 0.14, 0.4, 0.64)]
    strands = [
        ribbon(points([(x * 0.62, -0.95, 0.72), (x * 0.9, -0.66, 0.84), (x, y, z)]), (0.006, 0.026, 0.006))
        for x, y, z in tips
    ]
    return Hair(
        back=[(back, DARK)],
        front=[*front, (cap, BASE)],
        under=lining(over),
        shade=[c for c, _ in front] + [cap],
        strands=strands,
        shine=[sheen(over, fringe, who, 0.42, 0.13)],
    )


def _curtain(who: Person, over: Points, reach: float, wavy: float) -> Hair:
    """Long hair that falls to both sides of a parting."""
    mid = 0.22 * who.part if wavy else 0.0
    front, shade, strands = [], [], []
    for side in (-1, 1):
        edge = [
            (mid, -1.02),
            (mid + (side - mid) * 0.42, -0.84),
            (side * 0.8, -0.42),
            (side * 0.93, 0.1),
            (side * 0.88, 0.6),
        ]
        inner = hairline(*edge)
        low = [
            (side * (0.9 + wavy * 0.06), 1.0, 0.25),
            (side * (0.84 - wavy * 0.06), 1.4, 0.3),
            (side * 0.9, reach, 0.3),
        ]
        outer = [
            (side * (1.22 + wavy), reach - 0.05, 0.1),
            (side * (1.3 - wavy * 0.5), 1.35, 0.05),
            (side * (1.22 + wavy), 0.7, 0),
            (side * 1.16, 0.1, 0),
            (side * 1.12, -0.45, -0.03),
            (side * 0.95, -1.0, -0.05),
            (side * 0.5, -1.34, -0.05),
            (mid, -1.45, 0.0),
        ]
        ring = np.concatenate([inner, points(low), points(outer)])
        cubic = smooth(ring, sharp=(0, 7, 8, len(ring) - 1))
        front.append((cubic, BASE))
        shade.append(cubic)
        for k in (0.3, 0.62):
            a = np.array((mid + side * (0.2 + 0.3 * k), -1.28 + 0.18 * k, 0.4))
            b = np.array((side * (0.93 + 0.16 * k), 0.1, 0.2))
            c = np.array((side * (0.95 + 0.2 * k + wavy * 0.4), 0.9, 0.25))
            d = np.array((side * (0.92 + 0.22 * k), reach - 0.25, 0.25))
            strands.append(
                ribbon(
                    np.stack([a, (a + b) / 2 + by(side * 0.16, -0.1, 0.1), b, c, d]),
                    (0.006, 0.024, 0.03, 0.026, 0.006),
                )
            )
    strands.append(
        ribbon(points([(mid, -1.44, 0.1), (mid, -1.2, 0.5), (mid, -1.02, 0.72)]), (0.01, 0.026, 0.03))
    )
    back = smooth(
        points(
            [
                (-1.0, -0.7),
                (0, -1.2),
                (1.0, -0.7),
                (1.2, 0.4),
                (1.2, reach),
                (0.5, reach + 0.12),
                (-0.5, reach + 0.12),
                (-1.2, reach),
                (-1.2, 0.4),
            ],
            -0.3,
        ),
        sharp=(4, 7),
    )
    line = hairline((0.9, -0.2), (0.5, -0.75), (mid, -0.95), (-0.5, -0.75), (-0.9, -0.2))
    ground = points(
        [
            (-1.2 - wavy, reach - 0.1),
            (-1.22 - wavy, 0.7),
            (-1.16, 0.1),
            (-1.12, -0.45),
            (-0.95, -1.0),
            (-0.5, -1.34),
            (mid, -1.45),
            (0.5, -1.34),
            (0.95, -1.0),
            (1.12, -0.45),
            (1.16, 0.1),
            (1.22 + wavy, 0.7),
            (1.2 + wavy, reach - 0.1),
            (0.95, reach - 0.1),
            (0.9, 0.5),
            (-0.9, 0.5),
            (-0.95, reach - 0.1),
        ],
        -0.05,
    )
    return Hair(
        back=[(back, DARK)],
        under=[(smooth(ground, sharp=(0, 12, 13, 14, 15, 16)), DARK)],
        front=front,
        shade=shade,
        strands=strands,
        shine=[sheen(over, line, who, 0.45, 0.12)],
    )


def long(who: Person) -> Hair:
    return _curtain(who, crown(0.1, 0.1, 0.2), 1.95, 0.0)


def waves(who: Person) -> Hair:
    return _curtain(who, crown(0.12, 0.12, 0.2), 1.72, 0.13)
