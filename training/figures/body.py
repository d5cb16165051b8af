"""Neck, shoulders and clothes."""

from __future__ import annotations

import numpy as np
import skia

from .colours import WHITE, mix, times
from .curves import View, mirrored, points
from .head import Head
from .pen import Pen
from .person import Person


def draw(pen: Pen, body: View, view: View, head: Head, who: Person, opened: float) -> None:
    """The neck hangs between the moving head (`view`) and the still shoulders (`body`)."""
    n = 0.4 if who.feminine else 0.5
    top = np.array(view.spot(0, 0.75, -0.12)) - body.spot(0, 0.75, -0.12)
    shift = top / pen.unit
    neck = points(
        [
            (-n * 0.96, 0.7),
            (n * 0.96, 0.7),
            (n * 0.97, 1.25),
            (n * 1.06, 1.62),
            (n * 1.9, 1.86),
            (0, 2.3),
            (-n * 1.9, 1.86),
            (-n * 1.06, 1.62),
            (-n * 0.97, 1.25),
        ]
    )
    neck[:2, :2] += shift
    neck[[2, 8], :2] += 0.55 * shift
    path = body.shape(neck, sharp=(0, 1))
    base = mix(who.skin, who.shade, 0.22)
    pen.fill(path, base)
    with pen.inside(path):
        pen.canvas.translate(-0.05 * who.light * pen.unit, 0.17 * pen.unit)
        shadow = times(who.shade, mix(who.shade, WHITE, 0.55))
        pen.blurred(head.path(view, opened), shadow, 0.8, 0.07)
    pen.ink(path)
    for side in (-1, 1) if who.top == "scoop" else ():
        bone = body.shape(
            points([(side * 0.16, 1.83), (side * 0.42, 1.8), (side * 0.72, 1.74)]), closed=False
        )
        pen.line(bone, times(who.shade, who.skin), 0.026, 0.45)
    _clothes(pen, body, who)


def _torso(who: Person, collar: float, dip: float) -> np.ndarray:
    """Shoulders with a neckline: its half width and the depth of its middle."""
    w = who.shoulders
    right = points(
        [
            (0, dip),
            (collar * 0.62, dip - 0.22 * (dip - 1.5)),
            (collar, 1.6),
            (collar + 0.28, 1.69),
            (w * 0.8, 1.9),
            (w * 1.02, 2.2),
            (w * 1.12, 2.7),
            (w * 1.16, 3.6),
            (0, 3.6),
        ]
    )
    return mirrored(right)


def _clothes(pen: Pen, body: View, who: Person) -> None:
    draw_top = {
        "vee": _vee,
        "shirt": _shirt,
        "roll": _roll,
        "hood": _hood,
        "jacket": _jacket,
        "scoop": _scoop,
    }
    draw_top.get(who.top, _crew)(pen, body, who)


def _cloth(pen: Pen, body: View, who: Person, path: skia.Path, colour) -> None:
    """Cover a piece of clothing, with light from one side and darker towards the arms."""
    pen.fill(path, colour)
    unit = pen.unit
    dark, light = mix(colour, (0.08, 0.05, 0.12), 0.42), mix(colour, WHITE, 0.35)
    if pen.soft:
        pen.glow(path, body.spot(who.light * 0.9, 1.95), (1.1 * unit, 0.75 * unit), light, 0.5)
        pen.glow(path, body.spot(-who.light * 2.1, 2.5), (1.9 * unit, 1.7 * unit), dark, 0.8)
        pen.glow(path, body.spot(0, 1.5), (0.95 * unit, 0.5 * unit), dark, 0.55)
    elif not pen.sketch:
        side = points(
            [
                (-who.light * x, y)
                for x, y in (
                    (2.6, 1.5),
                    (who.shoulders * 0.72, 1.7),
                    (who.shoulders * 0.86, 2.2),
                    (who.shoulders * 0.8, 3.7),
                    (2.6, 3.7),
                )
            ]
        )
        with pen.inside(path):
            pen.fill(body.shape(side, sharp=(0, 1, 3, 4)), dark, 0.32)
    else:
        side = points(
            [
                (-who.light * x, y)
                for x, y in (
                    (2.6, 1.5),
                    (who.shoulders * 0.6, 1.7),
                    (who.shoulders * 0.7, 2.2),
                    (who.shoulders * 0.66, 3.7),
                    (2.6, 3.7),
                )
            ]
        )
        with pen.inside(path):
            pen.hatch(body.shape(side, sharp=(0, 1, 3, 4)), 0.8)
    pen.ink(path)


def _sleeves(pen: Pen, body: View, who: Person, colour) -> None:
    w = who.shoulders
    for side in (-1, 1):
        seam = points([(side * w * 0.73, 2.9), (side * w * 0.74, 2.6), (side * w * 0.71, 2.34)])
        pen.line(body.shape(seam, closed=False), mix(colour, (0.08, 0.05, 0.12), 0.4), 0.03, 0.6)


def _crew(pen: Pen, body: View, who: Person) -> None:
    torso = _torso(who, 0.56, 1.84)
    path = body.shape(torso, sharp=(8,))
    _cloth(pen, body, who, path, who.cloth)
    if who.top == "stripes":
        with pen.inside(path):
            for k in range(4):
                band = points([(-2.4, 2.12 + 0.28 * k), (0, 2.2 + 0.28 * k), (2.4, 2.12 + 0.28 * k)])
                pen.line(body.shape(band, closed=False), who.under, 0.11, 0.92)
    rib = points([(-0.58, 1.62), (-0.36, 1.82), (0, 1.9), (0.36, 1.82), (0.58, 1.62)])
    pen.line(body.shape(rib, closed=False), mix(who.cloth, (0.08, 0.05, 0.12), 0.25), 0.085)
    _sleeves(pen, body, who, who.cloth)


def _scoop(pen: Pen, body: View, who: Person) -> None:
    torso = _torso(who, 0.78, 2.12)
    path = body.shape(torso, sharp=(8,))
    _cloth(pen, body, who, path, who.cloth)
    chain = points([(-0.4, 1.66), (-0.22, 1.9), (0, 1.98), (0.22, 1.9), (0.4, 1.66)])
    pen.line(body.shape(chain, closed=False), who.accent, 0.022, 0.9)
    pen.canvas.drawCircle(
        *body.spot(0, 2.01),
        0.045 * pen.unit,
        skia.Paint(AntiAlias=True, Color=skia.Color4f(*who.accent, 1).toColor()),
    )
    _sleeves(pen, body, who, who.cloth)


def _vee(pen: Pen, body: View, who: Person) -> None:
    w = who.shoulders
    under = _torso(who, 0.54, 1.8)
    _cloth(pen, body, who, body.shape(under, sharp=(8,)), who.under)
    right = points(
        [
            (0, 2.3),
            (0.3, 1.95),
            (0.56, 1.6),
            (0.85, 1.7),
            (w * 0.8, 1.9),
            (w * 1.02, 2.2),
            (w * 1.12, 2.7),
            (w * 1.16, 3.6),
            (0, 3.6),
        ]
    )
    path = body.shape(mirrored(right), sharp=(0, 2, 8, 14))
    _cloth(pen, body, who, path, who.cloth)
    edge = points([(-0.58, 1.61), (-0.32, 1.96), (0, 2.32), (0.32, 1.96), (0.58, 1.61)])
    pen.line(body.shape(edge, closed=False, sharp=(2,)), mix(who.cloth, (0.08, 0.05, 0.12), 0.28), 0.07)
    _sleeves(pen, body, who, who.cloth)


def _collar(pen: Pen, body: View, colour) -> None:
    for side in (-1, 1):
        flap = points([(0.5, 1.42), (0.62, 1.62), (0.6, 1.84), (0.36, 2.06), (0.03, 1.82), (0.3, 1.72)]) * (
            side,
            1,
            1,
        )
        path = body.shape(flap, sharp=(0, 2, 3, 4))
        pen.fill(path, colour)
        pen.line(path, mix(colour, (0.15, 0.1, 0.2), 0.3), 0.018, 0.7)
        pen.ink(path, 0.026)


def _shirt(pen: Pen, body: View, who: Person) -> None:
    path = body.shape(_torso(who, 0.56, 1.84), sharp=(8,))
    _cloth(pen, body, who, path, who.cloth)
    line = points([(0, 1.84), (0.015, 2.4), (0, 3.2)])
    pen.line(body.shape(line, closed=False), mix(who.cloth, (0.08, 0.05, 0.12), 0.35), 0.025)
    for y in (2.12, 2.5):
        pen.canvas.drawCircle(
            *body.spot(0.06, y),
            0.035 * pen.unit,
            skia.Paint(AntiAlias=True, Color=skia.Color4f(*who.under, 1).toColor()),
        )
    _collar(pen, body, mix(who.cloth, WHITE, 0.16))
    _sleeves(pen, body, who, who.cloth)


def _roll(pen: Pen, body: View, who: Person) -> None:
    _cloth(pen, body, who, body.shape(_torso(who, 0.62, 1.72), sharp=(8,)), who.cloth)
    n = 0.47 if who.feminine else 0.57
    neck = points(
        [
            (-n, 1.3),
            (0, 1.46),
            (n, 1.3),
            (n + 0.07, 1.55),
            (n + 0.16, 1.78),
            (0, 1.92),
            (-n - 0.16, 1.78),
            (-n - 0.07, 1.55),
        ]
    )
    path = body.shape(neck, sharp=(0, 2, 4, 6))
    pen.fill(path, mix(who.cloth, WHITE, 0.1))
    if pen.soft:
        pen.glow(
            path,
            body.spot(0, 1.4),
            (0.7 * pen.unit, 0.28 * pen.unit),
            mix(who.cloth, (0.08, 0.05, 0.12), 0.5),
            0.75,
        )
    pen.ink(path)
    fold = points([(-n - 0.08, 1.6), (0, 1.74), (n + 0.08, 1.6)])
    pen.line(body.shape(fold, closed=False), mix(who.cloth, (0.08, 0.05, 0.12), 0.3), 0.026, 0.8)
    _sleeves(pen, body, who, who.cloth)


def _hood(pen: Pen, body: View, who: Person) -> None:
    hood = points(
        [
            (-0.66, 1.42),
            (-0.92, 1.58),
            (-0.95, 1.9),
            (0, 2.22),
            (0.95, 1.9),
            (0.92, 1.58),
            (0.66, 1.42),
            (0.52, 1.64),
            (0, 1.98),
            (-0.52, 1.64),
        ]
    )
    _cloth(pen, body, who, body.shape(_torso(who, 0.58, 1.88), sharp=(8,)), who.cloth)
    path = body.shape(hood)
    pen.fill(path, mix(who.cloth, WHITE, 0.12))
    pen.line(body.shape(hood[:7], closed=False), mix(who.cloth, (0.08, 0.05, 0.12), 0.35), 0.026, 0.7)
    pen.ink(path)
    for side in (-1, 1):
        cord = points([(side * 0.3, 1.96), (side * 0.33, 2.2), (side * 0.3, 2.52)])
        pen.line(body.shape(cord, closed=False), who.under, 0.05)
    _sleeves(pen, body, who, who.cloth)


def _jacket(pen: Pen, body: View, who: Person) -> None:
    w = who.shoulders
    _cloth(pen, body, who, body.shape(_torso(who, 0.54, 1.82), sharp=(8,)), who.under)
    if not who.feminine:
        tie = points([(-0.11, 1.8), (0.11, 1.8), (0.09, 1.98), (0.17, 3.2), (-0.17, 3.2), (-0.09, 1.98)])
        path = body.shape(tie, sharp=range(6))
        pen.fill(path, who.accent)
        pen.ink(path, 0.026)
    _collar(pen, body, mix(who.under, WHITE, 0.3))
    for side in (-1, 1):
        half = points(
            [
                (0.55, 1.58),
                (0.85, 1.68),
                (w * 0.8, 1.88),
                (w * 1.04, 2.2),
                (w * 1.14, 2.7),
                (w * 1.18, 3.6),
                (0.1, 3.6),
                (0.2, 2.75),
            ]
        ) * (side, 1, 1)
        _cloth(pen, body, who, body.shape(half, sharp=(0, 5, 6, 7)), who.cloth)
        lapel = points(
            [(0.5, 1.54), (0.72, 1.66), (0.9, 2.08), (0.74, 2.12), (0.8, 2.26), (0.2, 2.86), (0.36, 2.2)]
        ) * (side, 1, 1)
        path = body.shape(lapel, sharp=(0, 2, 3, 4, 5))
        pen.fill(path, mix(who.cloth, WHITE, 0.1))
        pen.line(path, mix(who.cloth, (0.08, 0.05, 0.12), 0.4), 0.022, 0.8)
        pen.ink(path, 0.028)
