"""Short hair, and none."""

from __future__ import annotations

import numpy as np

from ..curves import by, points, ribbon, scallops, smooth
from ..person import Person
from .paint import BASE, DARK, Hair
from .strands import HIGH, ROUND, capped, coil, crown, hairline, lining, parted_at, sheen, volume


def crop(who: Person) -> Hair:
    over, line = crown(0.06 * who.volume, 0.02, 0.12), hairline(*ROUND)
    return capped(over, volume(over, line), shine=[sheen(over, line, who, 0.45, 0.09)])


def parted(who: Person) -> Hair:
    over = crown(0.17 * who.volume, 0.035, 0.12, -0.06 * who.part)
    line = parted_at(
        hairline(
            (0.97, 0.12),
            (0.92, -0.2),
            (0.87, -0.5),
            (0.66, -0.62),
            (0.2, -0.68),
            (-0.26, -0.82),
            (-0.5, -1.0),
            (-0.66, -0.78),
            (-0.86, -0.5),
            (-0.92, -0.2),
            (-0.97, 0.12),
        ),
        who.part,
    )
    notch = 6 if who.part < 0 else 4
    cap = volume(over, line, sharp=(notch,))
    root = line[notch] + by(0, -0.05, 0)
    ends = parted_at(hairline((0.86, -0.55), (0.5, -0.7), (0.1, -0.78)), who.part)
    strands = []
    for k, end in enumerate(ends):
        bend = (root + end) / 2 + by(0, -0.17 - 0.03 * k, 0.1)
        strands.append(ribbon(np.stack([root + by(0, -0.04, 0), bend, end]), (0.01, 0.03, 0.008)))
    top = over[4 - who.part] + by(0, 0.06, 0.1)
    strands.append(ribbon(np.stack([root, (root + top) / 2, top]), (0.035, 0.026, 0.006)))
    return capped(over, cap, strands=strands, shine=[sheen(over, line, who, 0.42, 0.11)])


def quiff(who: Person) -> Hair:
    """Short sides, high waves at the front."""
    over = crown(0.05, 0.015, 0.12)
    sides = volume(over, hairline(*HIGH))
    p = -who.part
    tuft = points(
        [
            (-0.8 * p, -0.78, 0.3),
            (-0.94 * p, -1.2, 0.1),
            (-0.62 * p, -1.58, 0),
            (0.0, -1.74, 0),
            (0.62 * p, -1.66, 0),
            (1.02 * p, -1.34, 0.1),
            (0.95 * p, -0.98, 0.3),
            (0.72 * p, -0.84, 0.55),
            (0.3 * p, -0.98, 0.75),
            (-0.1 * p, -0.9, 0.8),
            (-0.45 * p, -0.92, 0.72),
        ]
    )
    tuft = tuft * (1, 0.5 + 0.5 * who.volume, 1) + by(0, -0.5 + 0.5 * who.volume, 0)
    front = smooth(tuft, sharp=(0, 6))
    wave = [
        ribbon(
            points(
                [
                    (a * p, -0.98, 0.7),
                    ((a + 0.06) * p, -1.26, 0.4),
                    ((a + 0.3) * p, -1.45, 0.2),
                    ((a + 0.52) * p, -1.4, 0.15),
                ]
            ),
            (0.012, 0.036, 0.03, 0.005),
        )
        for a in (-0.55, -0.22, 0.12)
    ]
    shine = ribbon(
        points(
            [(who.light * x, y, 0.4) for x, y in ((-0.1, -1.5), (0.2, -1.55), (0.5, -1.46), (0.68, -1.28))]
        ),
        (0.01, 0.1, 0.09, 0.01),
    )
    return Hair(
        front=[(sides, DARK), (front, BASE)],
        under=lining(crown(0.2, 0.02, 0.12)),
        shade=[sides, front],
        strands=wave,
        shine=[shine],
    )


def swept(who: Person) -> Hair:
    """Hair to the ears, swept from one side over the brow."""
    over = crown(0.22 * who.volume, 0.09, 0.36, 0.04 * who.part)
    line = parted_at(
        hairline(
            (0.98, 0.3),
            (0.95, 0.0),
            (0.9, -0.3),
            (0.62, -0.42),
            (0.18, -0.56),
            (-0.2, -0.76),
            (-0.5, -0.98),
            (-0.72, -0.66),
            (-0.9, -0.3),
            (-0.95, 0.05),
            (-0.98, 0.3),
        ),
        who.part,
    )
    cap = volume(over, line, sharp=(2, 6) if who.part < 0 else (4, 8))
    root = line[6 if who.part < 0 else 4]
    ends = parted_at(hairline((0.84, -0.36), (0.46, -0.5), (0.08, -0.66)), who.part)
    strands = [
        ribbon(
            np.stack([root + by(0, -0.1, 0), (root + e) / 2 + by(0, -0.22, 0.1), e]), (0.008, 0.034, 0.006)
        )
        for e in ends
    ]
    back = smooth(
        points(
            [
                (-1.06, -0.4),
                (0, -1.0),
                (1.06, -0.4),
                (1.08, 0.35),
                (0.8, 0.85),
                (0, 0.95),
                (-0.8, 0.85),
                (-1.08, 0.35),
            ],
            -0.4,
        )
    )
    return capped(over, cap, back=[(back, DARK)], strands=strands, shine=[sheen(over, line, who, 0.4, 0.12)])


def curls(who: Person) -> Hair:
    over = scallops(crown(0.2 * who.volume, 0.07, 0.02), 0.34, 0.13)
    fringe = scallops(
        hairline(
            (0.96, 0.02),
            (0.9, -0.34),
            (0.62, -0.62),
            (0.0, -0.72),
            (-0.62, -0.62),
            (-0.9, -0.34),
            (-0.96, 0.02),
        ),
        0.3,
        -0.1,
    )
    fringe[:, 2] += 0.04
    cap = smooth(np.concatenate([over, fringe]), sharp=(0, len(over) - 1))
    rng = np.random.default_rng(who.seed)
    strands = []
    for _ in range(11):
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-1.35, -0.85)
        strands.append(coil(x, y + 0.25 * x * x, 0.13))
    shine = [coil(who.light * a, -1.2 + b, 0.12, 0.06) for a, b in ((0.2, -0.16), (0.5, -0.05), (0.36, 0.14))]
    return capped(over, cap, strands=strands, shine=shine)


def afro(who: Person) -> Hair:
    v = 0.42 * who.volume
    ring = [
        (-0.98 - 0.5 * v, 0.32),
        (-1.16 - v, -0.2),
        (-1.06 - v, -0.85),
        (-0.62 - 0.4 * v, -1.4 - 0.8 * v),
        (0, -1.5 - v),
        (0.62 + 0.4 * v, -1.4 - 0.8 * v),
        (1.06 + v, -0.85),
        (1.16 + v, -0.2),
        (0.98 + 0.5 * v, 0.32),
    ]
    over = scallops(points(ring, -0.08), 0.3, 0.09)
    line = scallops(
        hairline(
            (0.95, 0.1), (0.88, -0.3), (0.62, -0.66), (0, -0.78), (-0.62, -0.66), (-0.88, -0.3), (-0.95, 0.1)
        ),
        0.24,
        -0.05,
    )
    cap = smooth(np.concatenate([over, line]), sharp=(0, len(over) - 1))
    back = smooth(scallops(points([*ring, (0.6, 0.7), (-0.6, 0.7)], -0.4), 0.34, 0.06, closed=True))
    rng = np.random.default_rng(who.seed)
    strands = [coil(rng.uniform(-1.05, 1.05), rng.uniform(-1.6, -0.95), 0.1) for _ in range(14)]
    shine = [
        coil(who.light * a, b, 0.13, 0.07)
        for a, b in ((0.3, -1.5), (0.68, -1.3), (0.52, -1.05), (0.95, -0.95))
    ]
    return capped(over, cap, back=[(back, DARK)], strands=strands, shine=shine)


def bald(who: Person) -> Hair:
    gleam = ribbon(
        points([(who.light * x, y, 0.5) for x, y in ((0.12, -1.12), (0.36, -1.08), (0.58, -0.92))]),
        (0.02, 0.08, 0.02),
    )
    return Hair(shine=[gleam])


def ring(who: Person) -> Hair:
    """Hair at the sides only."""
    front = []
    for side in (-1, 1):
        patch = points(
            [(0.97, 0.16), (1.08, -0.02), (1.1, -0.4), (0.99, -0.72), (0.9, -0.66), (0.9, -0.3), (0.92, 0.0)],
            0.0,
        ) * (side, 1, 1)
        front.append((smooth(patch, sharp=(0, 3)), BASE))
    return Hair(front=front)


def pixie(who: Person) -> Hair:
    over = crown(0.2 * who.volume, 0.06, 0.18, 0.06 * who.part)
    line = parted_at(
        hairline(
            (0.93, 0.36),
            (0.93, 0.0),
            (0.82, -0.36),
            (0.7, -0.26),
            (0.52, -0.5),
            (0.36, -0.36),
            (0.14, -0.62),
            (-0.06, -0.52),
            (-0.34, -0.84),
            (-0.56, -0.98),
            (-0.8, -0.6),
            (-0.92, -0.1),
            (-0.93, 0.36),
        ),
        who.part,
    )
    tips = (1, 3, 5, 7) if who.part < 0 else (11, 9, 7, 5)
    cap = volume(over, line, sharp=tips)
    root = line[9 if who.part < 0 else 3]
    strands = [
        ribbon(
            np.stack(
                [root + by(0, -0.12, 0), (root + line[t]) / 2 + by(0, -0.2, 0.1), line[t] + by(0, -0.06, 0)]
            ),
            (0.006, 0.03, 0.006),
        )
        for t in tips[1:]
    ]
    return capped(over, cap, strands=strands, shine=[sheen(over, line, who, 0.42, 0.11)])
