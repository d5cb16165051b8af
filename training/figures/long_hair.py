"""Long hair, and what is worn over it."""

from __future__ import annotations

import numpy as np

from .curves import Points, by, mirrored, points, ribbon, smooth
from .hair import ACCENT, BASE, DARK, Hair
from .person import Person
from .strands import HIGH, capped, crown, hairline, lining, sheen, strokes, volume


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


def _pulled(who: Person, top: float) -> Hair:
    """Hair combed back tightly."""
    over, line = crown(top, 0.02, 0.1), hairline(*HIGH)
    cap = volume(over, line)
    strands = strokes(
        line[::-1][2:-2] + by(0, -0.03, 0), over[1:-1] * (0.5, 1, 1) + by(0, 0.1, 0.2), 7, 0.024
    )
    return capped(over, cap, strands=strands, shine=[sheen(over, line, who, 0.5, 0.1)])


def bun(who: Person) -> Hair:
    hair = _pulled(who, 0.09)
    bun = smooth(
        points(
            [
                (-0.44, -1.66),
                (-0.3, -1.96),
                (0, -2.06),
                (0.3, -1.96),
                (0.44, -1.66),
                (0.3, -1.42),
                (0, -1.36),
                (-0.3, -1.42),
            ],
            -0.3,
        )
    )
    hair.back.insert(0, (bun, BASE))
    hair.back.append(
        (
            smooth(
                points(
                    [(-0.22, -1.46), (0, -1.52), (0.22, -1.46), (0.2, -1.36), (0, -1.34), (-0.2, -1.36)],
                    -0.25,
                )
            ),
            ACCENT,
        )
    )
    for side in (-1, 1):
        wisp = points([(0.86, -0.5, 0.45), (0.97, -0.1, 0.3), (0.97, 0.3, 0.25), (0.9, 0.56, 0.28)]) * (
            side,
            1,
            1,
        )
        hair.front.append((ribbon(wisp, (0.1, 0.075, 0.05, 0.008)), BASE))
    return hair


def tail(who: Person) -> Hair:
    hair = _pulled(who, 0.1)
    s = -who.part
    tail = points(
        [
            (0.4, -1.2),
            (0.95, -1.42),
            (1.42, -0.9),
            (1.52, -0.1),
            (1.42, 0.7),
            (1.12, 1.3),
            (1.1, 0.6),
            (0.92, -0.1),
            (0.9, -0.6),
        ],
        -0.35,
    ) * (s, 1, 1)
    hair.back.append((smooth(tail, sharp=(5,)), DARK))
    return hair


def braids(who: Person) -> Hair:
    over = crown(0.1, 0.05, 0.25)
    line = hairline(
        (0.97, 0.2),
        (0.92, -0.2),
        (0.82, -0.5),
        (0.45, -0.74),
        (0.0, -1.0),
        (-0.45, -0.74),
        (-0.82, -0.5),
        (-0.92, -0.2),
        (-0.97, 0.2),
    )
    cap = volume(over, line, sharp=(4,))
    front = [(cap, BASE)]
    for side in (-1, 1):
        for k in range(5):
            y = 0.62 + 0.31 * k
            x = 1.06 - 0.03 * k
            w = 0.2 - 0.012 * k
            bead = points([(x - w, y, 0.2), (x, y - 0.2, 0.2), (x + w, y, 0.2), (x, y + 0.24, 0.2)]) * (
                side,
                1,
                1,
            )
            front.append((smooth(bead), BASE if k % 2 else DARK))
        front.append(
            (
                smooth(
                    points([(0.9, 2.12, 0.2), (1.0, 2.08, 0.2), (1.06, 2.14, 0.2), (0.98, 2.2, 0.2)])
                    * (side, 1, 1)
                ),
                ACCENT,
            )
        )
        front.append(
            (
                smooth(
                    points(
                        [
                            (0.93, 0.2, 0.1),
                            (1.1, 0.16, 0),
                            (1.2, 0.45, 0.1),
                            (1.08, 0.62, 0.15),
                            (0.92, 0.5, 0.15),
                        ]
                    )
                    * (side, 1, 1)
                ),
                BASE,
            )
        )
    strands = [ribbon(points([(0, -1.44, 0.1), (0, -1.2, 0.5), (0, -1.0, 0.72)]), (0.012, 0.028, 0.03))]
    return Hair(
        front=front,
        under=lining(over),
        shade=[cap],
        strands=strands,
        shine=[sheen(over, line, who, 0.45, 0.1)],
    )


def scarf(who: Person) -> Hair:
    """A head scarf: a frame about the face, folds over the shoulders."""
    ring = points(
        [
            (0.0, -1.55),
            (0.62, -1.44),
            (1.06, -0.98),
            (1.2, -0.3),
            (1.2, 0.4),
            (1.05, 1.05),
            (0.72, 1.5),
            (0.0, 1.66),
        ],
        -0.02,
    )
    hole = hairline(
        (0.0, -0.84),
        (0.5, -0.76),
        (0.8, -0.44),
        (0.9, 0.05),
        (0.83, 0.5),
        (0.62, 0.88),
        (0.3, 1.12),
        (0.0, 1.19),
    )
    hole = np.concatenate([hole, hole[-2:0:-1] * (-1, 1, 1)])
    front = []
    for side in (-1, 1):
        a = ring * (side, 1, 1)
        b = hole[:8] * (side, 1, 1)
        # The halves overlap in the middle, so that no seam shows.
        over = (-0.04 * side, 0, 0)
        half = np.concatenate([a[:1] + over, a, a[-1:] + over, b[::-1][:1] + over, b[::-1], b[:1] + over])
        n = len(a) + 2
        front.append((smooth(half, sharp=(0, n - 1, n, len(half) - 1)), ACCENT))
    back = smooth(
        points([(-1.1, 0.3), (0, -1.0), (1.1, 0.3), (1.3, 1.5), (0.9, 2.0), (-0.9, 2.0), (-1.3, 1.5)], -0.3)
    )
    drape = smooth(
        points(
            [
                (-0.95, 1.2, 0.3),
                (0.0, 1.3, 0.45),
                (0.95, 1.2, 0.3),
                (1.15, 1.75, 0.2),
                (0.45, 2.2, 0.4),
                (-0.5, 2.3, 0.4),
                (-1.15, 1.75, 0.2),
            ]
        )
    )
    folds = [
        ribbon(
            points([(s * 0.74, 1.2, 0.5), (s * 0.4, 1.55, 0.6), (s * -0.15, 1.78, 0.6)]), (0.006, 0.03, 0.006)
        )
        for s in (-1, 1)
    ]
    folds.append(
        ribbon(points([(-0.95, -0.8, 0.2), (-0.45, -1.16, 0.35), (0.2, -1.3, 0.3)]), (0.006, 0.028, 0.006))
    )
    return Hair(
        back=[(back, ACCENT)],
        under=[(smooth(mirrored(ring)), ACCENT)],
        front=[(drape, ACCENT), *front],
        shade=[c for c, _ in front],
        strands=folds,
    )


def beanie(who: Person) -> Hair:
    over = crown(0.0, 0.04, 0.28 if who.feminine else 0.1)
    tufts = volume(
        over,
        hairline(
            (0.95, 0.2), (0.88, -0.3), (0.5, -0.56), (0, -0.6), (-0.5, -0.56), (-0.88, -0.3), (-0.95, 0.2)
        ),
    )
    dome = smooth(
        points(
            [
                (-1.08, -0.5, 0),
                (-1.1, -0.95, -0.05),
                (-0.8, -1.48, -0.1),
                (-0.28, -1.72, -0.1),
                (0.28, -1.72, -0.1),
                (0.8, -1.48, -0.1),
                (1.1, -0.95, -0.05),
                (1.08, -0.5, 0),
                (0, -0.66, 0.85),
            ]
        ),
        sharp=(0, 7),
    )
    brim = smooth(
        points(
            [
                (-1.12, -0.42, 0),
                (-1.14, -0.72, 0),
                (-0.6, -0.92, 0.6),
                (0, -0.97, 0.75),
                (0.6, -0.92, 0.6),
                (1.14, -0.72, 0),
                (1.12, -0.42, 0),
                (0.62, -0.58, 0.62),
                (0, -0.63, 0.88),
                (-0.62, -0.58, 0.62),
            ]
        ),
        sharp=(0, 1, 5, 6),
    )
    hair = Hair(
        front=[(tufts, BASE), (dome, ACCENT), (brim, ACCENT)],
        under=lining(over),
        shade=[tufts, brim],
    )
    hair.strands = [
        ribbon(
            points(
                [
                    (x, -0.9 + 0.12 * x * x, 0.75 - 0.5 * x * x),
                    (x * 1.02, -0.66 + 0.14 * x * x, 0.85 - 0.55 * x * x),
                ]
            ),
            (0.022, 0.022),
        )
        for x in np.linspace(-0.92, 0.92, 13)
    ]
    if who.feminine:
        back = smooth(
            points(
                [
                    (-1.0, -0.4),
                    (0, -0.8),
                    (1.0, -0.4),
                    (1.18, 0.5),
                    (1.12, 1.5),
                    (0.5, 1.62),
                    (-0.5, 1.62),
                    (-1.12, 1.5),
                    (-1.18, 0.5),
                ],
                -0.3,
            )
        )
        hair.back.append((back, DARK))
        for side in (-1, 1):
            lock = points(
                [
                    (0.86, -0.45, 0.3),
                    (1.08, -0.4, 0),
                    (1.16, 0.3, 0.05),
                    (1.12, 1.4, 0.1),
                    (0.9, 1.5, 0.2),
                    (0.86, 0.9, 0.25),
                    (0.93, 0.2, 0.25),
                ]
            ) * (side, 1, 1)
            hair.front.insert(0, (smooth(lock, sharp=(4,)), BASE))
    return hair
