"""The head: outline, ears, light, blush, age, nose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from .colours import WHITE, mix, times
from .curves import Points, View, by, mirrored, points, polyline, smooth
from .pen import Pen
from .person import FACES, Person
from .pose import Pose

DROP = 0.17
"""How far the chin goes down with a mouth that is wide open."""


def surface(x: float, y: float) -> float:
    """Depth of the face's surface; near the sides so little that nothing on it turns beyond the outline."""
    round_off = 0.9 * max(0.0, 1 - (x / 1.12) ** 2 - (y / 1.6) ** 2) ** 0.5
    return min(round_off, max(0.0, 2.0 * (1.03 - abs(x))))


def outline(who: Person) -> Points:
    """The head without hair, closed, from the top over the right side."""
    cheek, jaw, chin, long = FACES[who.face]
    firm = 0.97 if who.feminine else 1.02
    right = points(
        [
            (0, -1.34, 0),
            (0.48, -1.225, 0),
            (0.86, -0.84, 0),
            (1.0, -0.28, 0),
            (0.985 * cheek, 0.2, 0.02),
            (0.9 * cheek * (0.5 + jaw / 2), 0.58 * long, 0.08),
            (0.69 * jaw * firm, 0.93 * long, 0.2),
            (0.36 * jaw * chin * firm, 1.165 * long, 0.36),
            (0, 1.22 * long, 0.42),
        ]
    )
    return mirrored(right)


@dataclass(frozen=True)
class Head:
    """What of the head does not change: the outline closed and with the jaw dropped, ears, lines of age, freckles."""

    shut: np.ndarray
    dropped: np.ndarray
    ears: tuple[np.ndarray, np.ndarray]
    folds: tuple[np.ndarray, np.ndarray]
    lines: tuple[tuple[np.ndarray, float], ...]
    freckles: tuple[tuple[float, float, float], ...]

    def path(self, view: View, opened: float) -> skia.Path:
        return view.path(self.shut + (self.dropped - self.shut) * opened)


def build(who: Person) -> Head:
    flat = outline(who)
    down = flat + np.array((0, 1, 0)) * DROP * np.clip((flat[:, 1:2] - 0.35) / 0.7, 0, 1)
    ears, folds = [], []
    for side in (-1, 1):
        shape = points(
            [(0.86, -0.16), (1.02, -0.24), (1.145, -0.14), (1.12, 0.12), (1.0, 0.36), (0.88, 0.33)], -0.16
        )
        fold = points([(1.0, -0.1), (1.075, -0.1), (1.06, 0.06), (0.99, 0.16)], -0.12)
        grow = (side * (0.5 + who.ear / 2), who.ear, 1)
        ears.append(smooth((shape - (0, 0.05, 0)) * grow + by(0, 0.05, 0)))
        folds.append(smooth((fold - (0, 0.05, 0)) * grow + by(0, 0.05, 0), closed=False))
    rng = np.random.default_rng(who.seed)
    spots = rng.uniform((-0.62, 0.2), (0.62, 0.52), (26, 2)) if who.freckles else np.zeros((0, 2))
    return Head(
        shut=smooth(flat),
        dropped=smooth(down),
        ears=tuple(ears),
        folds=tuple(folds),
        lines=_age_lines(who),
        freckles=tuple((x, y + 0.1 * x * x, surface(x, y)) for x, y in spots if abs(x) > 0.12),
    )


def _age_lines(who: Person) -> tuple[tuple[np.ndarray, float], ...]:
    """Lines that come with age, and how strong each is."""

    def curve(*rows: tuple[float, float]) -> np.ndarray:
        return smooth(points([(x, y, surface(x, y) + 0.02) for x, y in rows]), closed=False)

    lines, age = [], who.age
    for side in (-1, 1):
        if age > 0.36:
            fold = curve((side * 0.24, 0.45), (side * 0.37, 0.6), (side * 0.42, 0.74))
            lines.append((fold, age - 0.2))
        if age > 0.5:
            bag = curve((side * 0.27, 0.2), (side * 0.42, 0.25), (side * 0.57, 0.19))
            lines.append((bag, age - 0.3))
        if age > 0.5:
            for lift in (-0.05, 0.05):
                lines.append((curve((side * 0.68, lift + 0.0), (side * 0.78, 1.8 * lift)), 0.6 * age))
    if age > 0.55:
        for y, half in ((-0.62, 0.34), (-0.5, 0.4)):
            lines.append((curve((-half, y + 0.03), (0, y), (half, y + 0.03)), 0.55 * age))
    return tuple(lines)


def draw_ears(pen: Pen, view: View, head: Head, who: Person) -> None:
    for ear, fold in zip(head.ears, head.folds, strict=True):
        path = view.path(ear)
        pen.fill(path, mix(who.skin, who.shade, 0.35))
        pen.ink(path)
        pen.line(view.path(fold, closed=False), mix(who.shade, times(who.shade, who.shade), 0.35), 0.04, 0.75)


def draw_earrings(pen: Pen, view: View, who: Person) -> None:
    if who.earring:
        for side in (-1, 1):
            x, y = view.spot(side * 1.03 * (0.5 + who.ear / 2), 0.05 + 0.37 * who.ear, -0.1)
            ring = skia.Path().addCircle(x, y, 0.055 * pen.unit)
            pen.fill(ring, mix(who.accent, WHITE, 0.15))
            pen.ink(ring, 0.02)


def draw(pen: Pen, view: View, head: Head, who: Person, how: Pose) -> skia.Path:
    """The head up to its cheeks; returns its outline."""
    path = head.path(view, how.open)
    light, unit = who.light, pen.unit
    pen.fill(path, who.skin)
    deep = times(who.shade, mix(who.skin, WHITE, 0.25))
    if pen.soft:
        pen.glow(
            path,
            view.spot(light * 0.35, -0.3, 0.8),
            (1.2 * unit, 1.5 * unit),
            mix(who.skin, WHITE, 0.55),
            0.42,
        )
        with pen.inside(path):
            pen.glow(path, view.spot(-light * 1.3, 0.25), (0.85 * unit, 1.9 * unit), who.shade, 0.95, 0.1)
            pen.glow(path, view.spot(0, 1.42, 0.3), (1.05 * unit, 0.5 * unit), deep, 0.6)
            pen.glow(path, view.spot(-light * 0.95, 1.0), (0.6 * unit, 0.7 * unit), deep, 0.45)
    else:
        side = polyline(head.shut) + by(light * 0.3, -0.12, 0)
        with pen.inside(path, view.shape(side)):
            if pen.sketch:
                pen.fill(path, who.shade, 0.35)
                pen.hatch(path, 0.5)
            else:
                pen.fill(path, who.shade, 0.5)
    _cheeks(pen, view, path, who, how)
    for line, strength in head.lines:
        pen.line(
            view.path(line, closed=False), times(who.shade, who.skin), 0.028, 0.6 * min(strength, 0.7) + 0.06
        )
    for x, y, z in head.freckles:
        pen.canvas.drawCircle(
            *view.spot(x, y, z), 0.02 * unit, skia.Paint(AntiAlias=True, Color=_freckle(who))
        )
    return path


def _freckle(who: Person) -> int:
    return skia.Color4f(*times(who.shade, who.shade), 0.55).toColor()


def _cheeks(pen: Pen, view: View, path: skia.Path, who: Person, how: Pose) -> None:
    lift = 0.06 * how.cheek
    pink = mix(who.lip, who.skin, 0.3)
    for side in (-1, 1):
        x, y = side * 0.58, 0.43 - lift
        size = (0.3 * pen.unit, (0.21 + 0.03 * how.cheek) * pen.unit)
        pen.glow(path, view.spot(x, y, surface(x, y)), size, pink, 0.75 * who.blush + 0.18 * how.cheek, 0.25)
        if pen.soft and side == who.light:
            spot = view.spot(side * 0.5, 0.28 - lift, surface(0.5, 0.28))
            pen.glow(path, spot, (0.24 * pen.unit, 0.13 * pen.unit), WHITE, 0.22)


def draw_nose(pen: Pen, view: View, who: Person, how: Pose) -> None:
    """Bridge, tip and nostrils; it stands out of the face, so that a turn shows."""
    w, y, unit, dark = who.nose_w, who.nose_y, pen.unit, -who.light
    shade, deep = mix(who.shade, who.skin, 0.12), times(who.shade, mix(who.shade, WHITE, 0.3))
    wing = 0.02 * max(how.smile, 0)
    tip = view.spot(0, y - 0.03, 1.12)
    side = view.shape(
        points(
            [
                (dark * 0.05, y - 0.34, 0.98),
                (dark * 0.03, y - 0.1, 1.13),
                (dark * 0.02, y + 0.03, 1.15),
                (dark * w * 0.75, y + 0.055, 0.94),
                (dark * (w + wing), y - 0.02, 0.88),
                (dark * (w * 0.78), y - 0.12, 0.9),
                (dark * 0.1, y - 0.2, 0.92),
            ]
        ),
        sharp=(0,),
    )
    if pen.soft:
        ball = skia.Path().addOval(_around(tip, w * 1.7 * unit, 0.3 * unit))
        under = view.spot(0, y + 0.1, 0.95)
        pen.glow(
            skia.Path().addOval(_around(under, w * 1.6 * unit, 0.11 * unit)),
            under,
            (w * 1.5 * unit, 0.1 * unit),
            shade,
            0.75,
        )
        pen.blurred(side, shade, 0.75, 0.035)
        pen.glow(ball, tip, (0.11 * unit, 0.1 * unit), WHITE, 0.4)
        bridge = view.spot(who.light * 0.03, y - 0.3, 1.0)
        pen.glow(
            skia.Path().addOval(_around(bridge, 0.2 * unit, 0.4 * unit)),
            bridge,
            (0.08 * unit, 0.26 * unit),
            WHITE,
            0.24,
        )
    elif not pen.sketch:
        pen.fill(side, shade, 0.85)
    base = points(
        [
            (-w - wing, y - 0.03, 0.88),
            (-w * 0.86, y + 0.05, 0.9),
            (-w * 0.4, y + 0.035, 1.02),
            (0, y + 0.075, 1.06),
            (w * 0.4, y + 0.035, 1.02),
            (w * 0.86, y + 0.05, 0.9),
            (w + wing, y - 0.03, 0.88),
        ]
    )
    if pen.sketch:
        pen.ink(view.shape(base, closed=False), 0.028)
        pen.ink(
            view.shape(points([(dark * 0.06, y - 0.36, 0.98), (dark * 0.05, y - 0.2, 1.05)]), closed=False),
            0.022,
        )
        return
    pen.line(view.shape(base[1:-1], closed=False), deep, 0.03, 0.4 if pen.soft else 0.75)
    for s in (-1, 1):
        hole = view.shape(
            points(
                [
                    (s * w * 0.3, y + 0.03, 1.0),
                    (s * w * 0.55, y + 0.005, 0.98),
                    (s * w * 0.75, y + 0.035, 0.94),
                ]
            ),
            closed=False,
        )
        pen.line(hole, times(deep, who.shade), 0.03, 0.5)


def _around(centre: tuple[float, float], half_width: float, half_height: float) -> skia.Rect:
    x, y = centre
    return skia.Rect(x - half_width, y - half_height, x + half_width, y + half_height)
