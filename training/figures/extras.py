"""Beards and glasses."""

from __future__ import annotations

import numpy as np
import skia

from .colours import INK, WHITE, luminance, mix, rgb
from .curves import View, oval, points, ribbon, smooth
from .head import DROP, surface
from .mouth import lips
from .pen import Pen
from .person import FACES, Person
from .pose import Pose

_FRAMES = (INK, rgb("#5a3324"), rgb("#27405c"), rgb("#b08d57"), rgb("#d9d3cc"))
"""Of glasses; one that stands out from the skin is taken."""


def draw_beard(pen: Pen, view: View, head: skia.Path, who: Person, how: Pose) -> None:
    """What grows on cheeks and chin; it follows the jaw. The mouth is drawn over it."""
    if who.beard in ("none", "moustache"):
        return
    _, jaw, chin, long = FACES[who.face]
    y, drop = who.mouth_y, DROP * how.open
    mouth = lips(who, how)
    below, corner, side = (
        mouth.outer_bottom[4, 1] + 0.035,
        mouth.top[0, 1] + 0.02,
        max(mouth.half, 0.8 * who.mouth_w),
    )
    if who.beard == "goatee":
        half = [
            (0, below + 0.03),
            (0.2, below),
            (side + 0.02, corner + 0.02),
            (0.36, y + 0.3),
            (0.28, 1.2 * long + drop),
            (0, 1.3 * long + drop),
        ]
        ring = [(x, at, surface(x, at) if at < 1.1 else 0.42) for x, at in half]
    else:
        grow = 0.05 if who.beard == "full" else 0.0
        low = 0.16 if who.beard == "full" else 0.0
        ring = [
            (0, below, 0.8),
            *((mouth.outer_bottom[k, 0] * 1.06, mouth.outer_bottom[k, 1] + 0.035, 0.8) for k in (5, 6, 7)),
            (side + 0.045, corner, 0.72),
            (side + 0.1, y - 0.16, 0.68),
            (0.72, y - 0.24, 0.55),
            (0.9, 0.1, 0.15),
            (1.0 + grow, 0.02, 0.0),
            (0.93 + grow, 0.6, 0.06),
            (0.72 * jaw + grow, 0.96 * long + 0.6 * drop + grow, 0.18),
            (0.36 * jaw * chin, 1.2 * long + drop + low, 0.33),
            (0, 1.25 * long + drop + low, 0.4),
        ]
    p = points(ring)
    path = view.shape(np.concatenate([p, p[-2:0:-1] * (-1, 1, 1)]))
    if who.beard == "stubble":
        tint = mix(mix(who.shade, (0.36, 0.33, 0.38), 0.45), who.skin, 0.1)
        with pen.inside(head):
            pen.blurred(path, tint, 0.5 if pen.soft else 0.36, 0.06)
        return
    pen.fill(path, mix(who.hair, who.hair_dark, 0.35))
    if pen.soft:
        unit = pen.unit
        pen.glow(path, view.spot(who.light * 0.5, 0.8, 0.4), (0.5 * unit, 0.5 * unit), who.hair_light, 0.3)
        pen.glow(path, view.spot(-who.light * 0.9, 0.9, 0.1), (0.7 * unit, 0.8 * unit), who.hair_dark, 0.7)
    pen.ink(path)


def draw_moustache(pen: Pen, view: View, who: Person, how: Pose) -> None:
    if who.beard not in ("moustache", "full", "goatee"):
        return
    shape = lips(who, how)
    for side in (-1, 1):
        w = shape.half * 1.02
        top = shape.outer_top[4, 1] - 0.07
        end = shape.top[0, 1]
        joined = who.beard != "moustache"
        reach = 0.1 if joined else 0.02
        spine = points(
            [
                (0.0, top, 0.98),
                (side * w * 0.5, top - 0.01, 0.93),
                (side * w * 0.95, (top + end) / 2, 0.82),
                (side * (w + 0.06), end + reach, 0.75),
            ]
        )
        path = view.path(ribbon(spine, (0.1, 0.125, 0.12, 0.1) if joined else (0.1, 0.13, 0.1, 0.03)))
        pen.fill(path, mix(who.hair, who.hair_dark, 0.35 + 0.25 * (pen.soft and side != who.light)))


def draw_glasses(pen: Pen, view: View, who: Person) -> None:
    if who.glasses == "none":
        return
    frames = [c for c in _FRAMES if abs(luminance(c) - luminance(who.skin)) > 0.2]
    frame = frames[who.seed % len(frames)]
    r, y, z = 0.36, who.eye_y + 0.03, 0.95
    for side in (-1, 1):
        x = side * who.eye_x * 1.07
        if who.glasses == "round":
            rim = oval(x, y, r, 0.95 * r, z)
        else:
            lift = 0.13 if who.glasses == "cat" else 0.0
            box = [
                (-0.9, -0.62),
                (0, -0.72),
                (0.92, -0.72),
                (1.06, -0.3),
                (0.92, 0.45),
                (0.3, 0.8),
                (-0.5, 0.78),
                (-0.92, 0.3),
            ]
            rim = np.array(
                [
                    (x + side * u * r, y + v * r * 0.92 - lift * max(u, 0) * (v < 0), z - 0.1 * max(u, 0))
                    for u, v in box
                ]
            )
        cubic = smooth(rim)
        path = view.path(cubic)
        pen.fill(path, WHITE, 0.05)
        glint = points([(x - 0.16, y + 0.08, z), (x + 0.06, y - 0.2, z)])
        pen.line(view.shape(glint, closed=False), WHITE, 0.05, 0.2)
        pen.line(path, frame, 0.05 if who.glasses == "round" else 0.062)
        arm = points([(x + side * r * 1.02, y - 0.1, z - 0.12), (side * 1.0, y - 0.08, 0.05)])
        pen.line(view.shape(arm, closed=False), frame, 0.05)
    inner = who.eye_x * 1.07 - r * 0.95
    bridge = points([(-inner, y - 0.06, z), (0, y - 0.12, 1.04), (inner, y - 0.06, z)])
    pen.line(view.shape(bridge, closed=False), frame, 0.05)
