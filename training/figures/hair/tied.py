"""Long hair that is tied up."""

from __future__ import annotations

from ..curves import by, points, ribbon, smooth
from ..person import Person
from .paint import ACCENT, BASE, DARK, Hair
from .strands import HIGH, capped, crown, hairline, lining, sheen, strokes, volume


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
