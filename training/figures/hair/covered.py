"""What is worn over the hair."""

from __future__ import annotations

import numpy as np

from ..curves import mirrored, points, ribbon, smooth
from ..person import Person
from .paint import ACCENT, BASE, DARK, Hair
from .strands import crown, hairline, lining, volume


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
