"""Eyes and brows.

A lid is a curve that travels; the upper and the lower one meet in one line, so that a shut eye is clean.
"""

from __future__ import annotations

import numpy as np
import skia

from .colours import INK, WHITE, mix, rgb, times
from .curves import Points, View, by, points, ribbon
from .head import surface
from .pen import Pen
from .person import Person
from .pose import Pose

_U = np.array([-1.0, -0.62, -0.15, 0.4, 0.78, 1.0])  # inner to outer corner
_UPPER = np.array([-0.08, 0.66, 1.0, 0.93, 0.5, 0.0])
_LOWER = np.array([-0.08, 0.3, 0.72, 0.95, 0.6, 0.0])
_MEET = 0.62
"""Where the lids meet: this part of the way from the corners' line to the lower lid."""
_SCLERA = rgb("#fbf8f4")


def lids(who: Person, how: Pose, side: int) -> tuple[Points, Points]:
    """Upper and lower lid [6, 3] of one eye (-1 left in the picture), from the inner to the outer corner."""
    x = side * (who.eye_x + _U * who.eye_w)
    base = who.eye_y - who.eye_tilt * _U
    low = who.eye_h * 0.62 * (1 - 0.5 * how.cheek) * _LOWER
    # Looking down takes the upper lid along, a raised brow lifts it a little.
    high = (
        who.eye_h
        * (1 + 0.1 * how.brow - 0.25 * max(how.gaze_y, 0) - 0.18 * how.cheek - 0.12 * how.frown)
        * _UPPER
    )
    meet = who.eye_h * 0.62 * _MEET * _LOWER
    shut = min(max(how.blink, 0.0), 1.0)
    z = np.array([surface(float(at), who.eye_y) for at in x]) + 0.02
    upper = np.stack([x, base - high + (high + meet) * shut, z], 1)
    lower = np.stack([x, base + low + (meet - low) * shut, z], 1)
    return upper, lower


def draw(pen: Pen, view: View, who: Person, how: Pose) -> None:
    for side in (-1, 1):
        _eye(pen, view, who, how, side)


def _eye(pen: Pen, view: View, who: Person, how: Pose, side: int) -> None:
    upper, lower = lids(who, how, side)
    unit = pen.unit
    socket = view.spot(side * who.eye_x, who.eye_y - 0.1, surface(who.eye_x, 0))
    if pen.soft:
        oval = skia.Path().addOval(
            skia.Rect.MakeLTRB(
                socket[0] - 0.4 * unit,
                socket[1] - 0.34 * unit,
                socket[0] + 0.4 * unit,
                socket[1] + 0.34 * unit,
            )
        )
        pen.glow(oval, socket, (0.36 * unit, 0.27 * unit), who.shade, 0.55)
    crease = upper.copy()
    rise = who.eye_h * (0.3 + 0.06 * how.brow)
    open_top = who.eye_y - who.eye_tilt * _U - who.eye_h * _UPPER - rise * (0.45 + 0.55 * _UPPER)
    crease[:, 1] = np.minimum(open_top, upper[:, 1] - 0.02)
    lid = view.shape(np.concatenate([crease, upper[::-1]]), sharp=(0, 5, 6, 11))
    pen.fill(lid, mix(who.skin, who.shade, 0.45 if who.feminine else 0.3))
    pen.line(view.shape(crease[1:], closed=False), times(who.shade, mix(who.skin, WHITE, 0.2)), 0.024, 0.75)
    if np.abs(upper - lower).max() > 0.012:
        _ball(pen, view, who, how, side, upper, lower)
    dark = mix(INK, who.hair_dark, 0.25)
    thick = 0.062 if who.feminine else 0.047
    lash = upper.copy()
    lash[-1] += (side * 0.035, -0.022 if who.feminine else 0.0, -0.02)
    widths = thick * np.array([0.3, 0.75, 1.0, 1.1, 1.0, 0.15])
    pen.fill(view.path(ribbon(lash, widths)), dark)
    if who.feminine:
        for k, (reach, lift) in enumerate(((0.075, 0.05), (0.07, 0.075))):
            root = upper[4 - k] + (upper[5 - k] - upper[4 - k]) * 0.6
            down = 0.085 * how.blink
            tip = root + by(side * reach, -lift + down * 1.3, -0.02)
            bend = (root + tip) / 2 + by(0, 0.012, 0)
            pen.fill(view.path(ribbon(np.stack([root, bend, tip]), (0.045, 0.032, 0.008))), dark)
    under = view.shape(lower[2:], closed=False)
    pen.line(under, mix(dark, who.shade, 0.55), 0.018, 0.7 * (1 - how.blink))


def _ball(pen: Pen, view: View, who: Person, how: Pose, side: int, upper: Points, lower: Points) -> None:
    eye = view.shape(np.concatenate([upper, lower[-2:0:-1]]), sharp=(0, 5))
    unit, canvas = pen.unit, pen.canvas
    radius = 0.86 * who.eye_h + 0.012
    x = side * who.eye_x * 0.99 + 0.082 * how.gaze_x
    y = who.eye_y - 0.018 + 0.045 * how.gaze_y
    cx, cy = view.spot(x, y, surface(who.eye_x, 0) + 0.02)
    r = radius * unit

    def disc(dx: float, dy: float, part: float) -> skia.Path:
        return skia.Path().addCircle(cx + dx * r, cy + dy * r, part * r)

    with pen.inside(eye):
        pen.fill(eye, _SCLERA if not pen.sketch else WHITE)
        pen.fill(disc(0, 0, 1.0), mix(times(who.iris, who.iris), INK, 0.45))
        pen.fill(disc(0, 0.02, 0.86), who.iris)
        if pen.soft or pen.style == "flat":
            pen.glow(
                disc(0, 0, 0.86), (cx, cy + 0.6 * r), (0.8 * r, 0.7 * r), mix(who.iris, WHITE, 0.55), 0.75
            )
        pen.fill(disc(0, 0, 0.46), rgb("#15101a"))
        shadow = upper.copy()
        shadow[:, 1] += 0.055
        shade = view.shape(np.concatenate([upper - (0, 0.1, 0), shadow[::-1]]), sharp=(0, 5, 6, 11))
        pen.fill(shade, mix(who.shade, INK, 0.55), 0.34)
        pen.fill(disc(0.36 * who.light, -0.38, 0.25), WHITE, 0.97)
        pen.fill(disc(-0.38 * who.light, 0.36, 0.12), WHITE, 0.6)
        corner = view.spot(side * (who.eye_x - who.eye_w * 0.97), who.eye_y + 0.005, 0.75)
        canvas.drawCircle(
            *corner, 0.032 * unit, skia.Paint(AntiAlias=True, Color=skia.Color4f(*who.lip, 0.6).toColor())
        )


def draw_brows(pen: Pen, view: View, who: Person, how: Pose) -> None:
    colour = mix(who.hair_dark, who.hair, 0.3) if sum(who.hair) < 2.4 else who.hair_dark
    if who.cut in ("scarf", "beanie", "bald"):
        colour = who.hair_dark
    h = who.brow_h
    for side in (-1, 1):
        lift = 0.085 * how.brow
        pinch = how.frown
        row = [
            (-0.9, -0.012 + 0.06 * pinch + who.brow_tilt),
            (-0.35, -0.05 + 0.03 * pinch + 0.4 * who.brow_tilt),
            (0.4, -0.075),
            (1.18, -0.012 - 0.4 * who.brow_tilt),
        ]
        spine = []
        for u, dy in row:
            x = who.eye_x + u * who.eye_w - 0.035 * pinch * (u < 0)
            y = who.eye_y - who.brow_y + dy - lift * (1.15 if u < 0.5 else 0.8)
            spine.append((side * x, y, surface(x, y) + 0.05))
        path = view.path(ribbon(points(spine), (h * 0.62, h * 1.0, h * 0.92, h * 0.14)))
        pen.fill(path, colour, 0.94)
