"""The mouth: lips, and behind them teeth, tongue and the dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import WHITE, mix, rgb, times
from .curves import Points, View, by, oval, ribbon
from .pen import Pen
from .person import Person
from .pose import Pose

GAP = 0.44
"""How far the lips are apart when wide open."""
_U = np.array([-1.0, -0.84, -0.5, -0.2, 0.0, 0.2, 0.5, 0.84, 1.0])
_ROOF, _FLOOR = 1 - np.abs(_U) ** 2.2, (1 - np.abs(_U) ** 2.6) ** 0.8
_BOW = np.array([0.0, 0.42, 0.8, 1.08, 0.86, 1.08, 0.8, 0.42, 0.0])
_PAD = np.array([0.0, 0.42, 0.84, 0.98, 1.0, 0.98, 0.84, 0.42, 0.0])
_DARK, _TONGUE, _TOOTH = rgb("#4a1620"), rgb("#d9656b"), rgb("#fdfaf3")


@dataclass(frozen=True)
class Lips:
    """Four curves [9, 3] from the left corner to the right one, and the numbers behind them."""

    outer_top: Points
    top: Points
    bottom: Points
    outer_bottom: Points
    half: float
    gap: float
    middle: float


def lips(who: Person, how: Pose) -> Lips:
    """The lips of a pose: `wide` pulls the corners in or out, `open` drops the lower lip, `smile` lifts the corners."""
    rounded, spread = max(-how.wide, 0.0), max(how.wide, 0.0)
    smile, parted = how.smile * (1 - 0.5 * rounded), min(how.open * 6, 1.0)
    half = who.mouth_w * (1 + 0.17 * spread - 0.42 * rounded) * (1 - 0.07 * how.open) * (1 + 0.16 * smile)
    gap = GAP * how.open * (1 - 0.1 * rounded) + 0.05 * how.teeth * parted
    middle = who.mouth_y + 0.01 * how.open
    lifted = who.corners + 0.085 * smile + 0.015 * spread
    round_off = 1 - 0.42 * rounded
    roof, floor = _ROOF**round_off, _FLOOR**round_off
    line = middle - lifted * (np.abs(_U) ** 1.7 - 0.35)
    # A mouth that opens pulls its corners towards its middle.
    line = line + (0.16 * gap) * np.abs(_U) ** 2
    share = 0.27 + 0.06 * rounded
    top, bottom = line - share * gap * roof, line + (1 - share) * gap * floor
    pout, thin = 1 + 0.12 * rounded, 1 - 0.22 * max(smile, 0) - 0.1 * spread
    outer_top = top - who.lip_up * pout * thin * _BOW**round_off
    outer_bottom = bottom + who.lip_low * pout * thin * _PAD**round_off

    def curve(y: np.ndarray, reach: float) -> Points:
        x = reach * _U
        return np.stack([x, y, 0.84 - 1.4 * x**2 + 0.06 * rounded], 1)

    # A rounded mouth has lips beside its opening too.
    around = half * (1 + 0.16 * rounded)
    return Lips(
        curve(outer_top, around),
        curve(top, half),
        curve(bottom, half),
        curve(outer_bottom, around),
        half,
        gap,
        middle,
    )


def draw(pen: Pen, view: View, who: Person, how: Pose) -> None:
    shape, unit = lips(who, how), pen.unit
    _around(pen, view, who, how, shape)
    upper = view.shape(np.concatenate([shape.outer_top, shape.top[::-1]]), sharp=(0, 8, 9, 17))
    lower = view.shape(np.concatenate([shape.bottom, shape.outer_bottom[::-1]]), sharp=(0, 8, 9, 17))
    deep = mix(who.lip, times(who.lip, who.shade), 0.75)
    pen.fill(upper, mix(who.lip, deep, 0.45))
    pen.fill(lower, who.lip)
    if pen.soft:
        x, y = view.spot(0.1 * who.light * shape.half, shape.outer_bottom[4, 1] - 0.55 * who.lip_low, 0.9)
        pen.glow(lower, (x, y), (0.5 * shape.half * unit, 0.042 * unit), WHITE, 0.5 if who.feminine else 0.28)
        x, y = view.spot(0, shape.outer_bottom[4, 1] + 0.01, 0.9)
        pen.glow(lower, (x, y), (1.1 * shape.half * unit, 0.05 * unit), deep, 0.6)
    elif not pen.sketch:
        shine = shape.outer_bottom[3:6] - (0, 0.6 * who.lip_low, -0.02)
        shine[:, 0] = shape.half * np.array([0.0, 0.17, 0.34]) * who.light
        pen.line(view.shape(shine, closed=False), mix(who.lip, WHITE, 0.5), 0.026, 0.8)
    if shape.gap > 0.016:
        _inside(pen, view, who, how, shape)
    seam = ribbon(
        (shape.top + shape.bottom) / 2,
        np.array([0.022, 0.026, 0.022, 0.026, 0.03, 0.026, 0.022, 0.026, 0.022]) * 1.15,
    )
    shut = min(1.0, max(0.0, 1.3 - shape.gap * 45))
    if shut > 0:
        pen.fill(view.path(seam), mix(_DARK, deep, 0.3), 0.92 * shut)
    for end in (shape.top[0], shape.top[-1]):
        side = np.sign(end[0])
        tuck = np.stack(
            [
                end - (side * 0.03, 0, 0),
                end + by(side * 0.012, -0.008, 0),
                end + by(side * 0.03, -0.03 * (how.smile > 0.2) - 0.006, -0.02),
            ]
        )
        pen.fill(view.path(ribbon(tuck, (0.012, 0.034, 0.008))), mix(deep, _DARK, 0.4), 0.8)
    if pen.sketch:
        pen.ink(view.shape(shape.outer_top, closed=False), 0.02)
        pen.ink(view.shape(shape.outer_bottom[2:-2], closed=False), 0.022)


def _around(pen: Pen, view: View, who: Person, how: Pose, shape: Lips) -> None:
    """The shadow under the lower lip, and the folds of a smile."""
    unit, chin = pen.unit, shape.outer_bottom[4, 1] + 0.045
    under = view.shape(oval(0, chin, 0.3, 0.11, 0.84))
    pen.glow(under, view.spot(0, chin, 0.85), (0.27 * unit, 0.06 * unit), who.shade, 0.9 if pen.soft else 0.6)
    if pen.soft:
        middle = (who.nose_y + shape.outer_top[4, 1]) / 2 + 0.06
        groove = view.shape(oval(0, middle, 0.09, 0.11, 0.93))
        pen.glow(groove, view.spot(0, middle, 0.95), (0.06 * unit, 0.09 * unit), who.shade, 0.5)
    strength = max(0.0, how.smile) * 0.75 + 0.25 * how.cheek
    if strength > 0.04:
        for side in (-1, 1):
            fold = np.array(
                [
                    (0.27, who.nose_y + 0.06, 0.82),
                    (0.41, who.nose_y + 0.17, 0.75),
                    (shape.half + 0.11, who.mouth_y - 0.04, 0.68),
                ]
            ) * (side, 1, 1)
            pen.line(
                view.shape(fold, closed=False), times(who.shade, who.skin), 0.026, min(0.4, 0.4 * strength)
            )


def _inside(pen: Pen, view: View, who: Person, how: Pose, shape: Lips) -> None:
    hole = view.shape(np.concatenate([shape.top, shape.bottom[-2:0:-1]]), sharp=(0, 8))
    half, gap, top, bottom = shape.half, shape.gap, shape.top[4, 1], shape.bottom[4, 1]
    shown = min(1.0, gap / 0.06)

    with pen.inside(hole):
        pen.fill(hole, _DARK)
        if pen.soft:
            pen.glow(
                hole,
                view.spot(0, (top + bottom) / 2, 0.8),
                (half * 0.7 * pen.unit, gap * 0.5 * pen.unit),
                rgb("#2a0810"),
                0.8,
            )
        # `y` is the tongue's tip; it lies behind the lower lip or is lifted behind the upper teeth.
        lie, lifted = bottom + 0.015 - 0.34 * gap * min(how.open * 1.4, 1.0), top + 0.06
        y = lie + (lifted - lie) * how.tongue
        high = 0.1 + 0.16 * gap + 0.1 * how.tongue
        tongue = view.shape(oval(0, y + high, half * (0.66 - 0.12 * how.tongue), high, 0.8))
        pen.fill(tongue, _TONGUE)
        middle = view.shape(np.array([(0, y + 0.05, 0.85), (0, y + 0.16, 0.85)]), closed=False)
        pen.line(middle, times(_TONGUE, _TONGUE), 0.026, 0.5)
        if pen.soft:
            pen.glow(
                tongue, view.spot(0, y + 0.03, 0.8), (half * 0.4 * pen.unit, 0.05 * pen.unit), WHITE, 0.35
            )
        # Teeth: the upper row hangs from the lip, the lower one rises as the teeth close.
        reach = gap * (0.2 + 0.42 * how.teeth) + 0.012
        reach = min(reach, 0.1 + 0.05 * how.teeth) * shown * (1 - 0.55 * max(-how.wide, 0) * (1 - how.teeth))
        _row(pen, view, shape, top - 0.05, top + reach, 0.92, -1)
        low = gap * (0.34 * how.teeth + 0.1 * max(how.wide, 0)) * shown
        if low > 0.006:
            _row(pen, view, shape, bottom - min(low, 0.1), bottom + 0.06, 0.8, 1)
        pen.fill(view.path(ribbon(shape.top + by(0, 0.012, 0), np.full(9, 0.034))), _DARK, 0.42)
    pen.ink(hole, 0.02)


def _row(pen: Pen, view: View, shape: Lips, above: float, below: float, part: float, edge: int) -> None:
    """A row of teeth between two heights; its free edge bends with the jaw."""
    u = np.array([-1, -0.6, 0, 0.6, 1])
    x, z = u * part * shape.half, 0.82 - 0.1 * u**2
    # The row follows the jaw's bow, and its teeth get smaller towards the corners.
    bow, small = -0.03 * u**2, edge * 0.3 * (below - above) * u**4
    lines = [
        np.stack([x, y + bow + add, z], 1)
        for y, add in ((above, small * (edge > 0)), (below, small * (edge < 0)))
    ]
    row = view.shape(np.concatenate([lines[0], lines[1][::-1]]), sharp=(0, 4, 5, 9))
    pen.fill(row, _TOOTH)
    if below - above > 0.1:
        gum = times(_TOOTH, rgb("#e8d9cf"))
        for k in (-0.5, 0.0, 0.5):
            seam = np.array([(k * part * shape.half, above, 0.83), (k * part * shape.half, below, 0.83)])
            pen.line(view.shape(seam, closed=False), gum, 0.012, 0.5)
    free = lines[1] if edge < 0 else lines[0]
    pen.line(view.shape(free, closed=False), times(_TOOTH, rgb("#d8c3bd")), 0.016, 0.6)
