"""A sheet of people to look at.

python -m training.figures.sheet --out sheet.png --style soft --first 0 --count 24
python -m training.figures.sheet --out faces.png --first 7 --count 4 --expressions
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from .figure import Figure
from .pen import STYLES
from .person import person
from .pose import NAMES, still

EXPRESSIONS = (
    {},
    {"open": 0.1, "wide": 0.2, "teeth": 0.8},
    {"open": 0.18, "wide": 0.55, "teeth": 1.0},
    {"open": 0.27, "wide": 0.2, "teeth": 0.45, "tongue": 0.9},
    {"open": 0.32, "wide": 1.0, "teeth": 0.4},
    {"open": 1.0, "wide": 0.15},
    {"open": 0.7, "wide": -0.7},
    {"open": 0.3, "wide": -1.0},
    {"smile": 0.9, "cheek": 0.7},
    {"smile": 0.9, "cheek": 0.9, "open": 0.5, "wide": 0.5, "teeth": 0.3},
    {"blink": 1.0},
    {"yaw": -0.4, "gaze_x": -0.5},
    {"yaw": 0.3, "pitch": 0.2, "brow": 0.8},
    {"frown": 1.0, "smile": -0.4, "brow": -0.5},
)
"""Mouth shapes (closed, f, s, l, ee, ah, oh, oo), moods, lids, turns."""


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures [S, S, 3] side by side, white where the last row has none."""
    size = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    page = np.full((rows * size, columns * size, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = divmod(k, columns)
        page[y * size : (y + 1) * size, x * size : (x + 1) * size] = picture
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--style", choices=STYLES, help="draw all in this style (default: each in its own)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--expressions", action="store_true", help="a row for each person")
    args = parser.parse_args()
    motion = still(len(EXPRESSIONS) if args.expressions else 1)
    if args.expressions:
        motion = {name: np.array([pose.get(name, 0.0) for pose in EXPRESSIONS]) for name in NAMES}
    pictures: list[np.ndarray] = []
    for seed in range(args.first, args.first + args.count):
        pictures += list(Figure(person(seed, args.style), args.size).frames(motion))
    Image.fromarray(sheet(pictures, len(EXPRESSIONS) if args.expressions else 6)).save(args.out)


if __name__ == "__main__":
    main()
