"""What is behind a person: drawn once, then the same picture for all frames."""

from __future__ import annotations

import random

import numpy as np
import skia

from .colours import WHITE, Colour, luminance, mix, rgb
from .person import Person


def draw(who: Person, size: int) -> np.ndarray:
    """RGBA uint8 [size, size, 4]."""
    pixels = np.zeros((size, size, 4), np.uint8)
    canvas = skia.Surface(pixels, skia.kRGBA_8888_ColorType).getCanvas()
    canvas.scale(size, size)
    rng = random.Random(who.seed * 7 + 1)
    _KINDS[who.backdrop](_Scene(canvas, size), who, rng)
    if who.style == "sketch":
        pixels[..., :3] = _grain(pixels[..., :3], who.seed, 2.2)
    elif who.backdrop in ("room", "window", "landscape", "lights", "gradient"):
        pixels[..., :3] = _grain(pixels[..., :3], who.seed, 1.2)
    return pixels


def _grain(pixels: np.ndarray, seed: int, amount: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, amount, pixels.shape[:2])
    noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 1.7
    return np.clip(np.round(pixels + noise[..., None]), 0, 255).astype(np.uint8)


class _Scene:
    """The unit square, painted with fills that may be out of focus."""

    def __init__(self, canvas: skia.Canvas, size: int) -> None:
        self.canvas, self.size = canvas, size

    def _paint(self, colour: Colour, alpha: float, blur: float) -> skia.Paint:
        paint = skia.Paint(AntiAlias=True, Color=skia.Color4f(*colour, alpha).toColor())
        if blur:
            paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur, True))
        return paint

    def all(self, top: Colour, bottom: Colour, slant: float = 0.0) -> None:
        colours = [skia.Color4f(*c, 1).toColor() for c in (top, bottom)]
        ends = [skia.Point(slant, 0), skia.Point(1 - slant, 1)]
        self.canvas.drawPaint(skia.Paint(Shader=skia.GradientShader.MakeLinear(ends, colours), Dither=True))

    def box(self, x, y, w, h, colour: Colour, alpha=1.0, blur=0.0, corner=0.0) -> None:
        self.canvas.drawRoundRect(
            skia.Rect.MakeXYWH(x, y, w, h), corner, corner, self._paint(colour, alpha, blur)
        )

    def disc(self, x, y, r, colour: Colour, alpha=1.0, blur=0.0) -> None:
        self.canvas.drawCircle(x, y, r, self._paint(colour, alpha, blur))

    def ground(self, heights: list[float], colour: Colour, alpha=1.0, blur=0.0) -> None:
        """Everything below a rolling line."""
        path = skia.Path()
        path.moveTo(-0.1, 1.1)
        path.lineTo(-0.1, heights[0])
        step = 1.2 / (len(heights) - 1)
        for k in range(1, len(heights)):
            x = -0.1 + step * k
            path.cubicTo(x - step * 0.55, heights[k - 1], x - step * 0.45, heights[k], x, heights[k])
        path.lineTo(1.1, 1.1)
        path.close()
        self.canvas.drawPath(path, self._paint(colour, alpha, blur))

    def glow(self, x, y, r, colour: Colour, alpha: float) -> None:
        colours = [skia.Color4f(*colour, a).toColor() for a in (alpha, 0.45 * alpha, 0)]
        shader = skia.GradientShader.MakeRadial(skia.Point(x, y), r, colours, [0, 0.45, 1])
        self.canvas.drawPaint(skia.Paint(Shader=shader, Dither=True))

    def vignette(self, strength: float) -> None:
        colours = [skia.Color4f(0.05, 0.03, 0.08, a).toColor() for a in (0, 0, strength)]
        shader = skia.GradientShader.MakeRadial(skia.Point(0.5, 0.45), 0.8, colours, [0, 0.5, 1])
        self.canvas.drawPaint(skia.Paint(Shader=shader, Dither=True))


def _plain(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(who.wall, who.wall)


def _disc(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(who.wall, mix(who.wall, who.wall_2, 0.25))
    s.disc(0.5, 0.5, 0.41, who.wall_2, 0.85)


def _arch(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(who.wall, who.wall)
    s.box(0.14, 0.1, 0.72, 1.2, who.wall_2, corner=0.36)
    s.disc(0.84, 0.2, 0.06, who.accent, 0.9)


def _hills(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(mix(who.wall, WHITE, 0.25), who.wall)
    s.disc(rng.choice((0.2, 0.8)), 0.24, 0.085, mix(who.accent, WHITE, 0.35))
    for k in range(3):
        heights = [0.55 + 0.12 * k + rng.uniform(-0.06, 0.06) for _ in range(5)]
        s.ground(heights, mix(who.wall_2, mix(who.wall_2, (0.1, 0.15, 0.25), 0.5), 0.25 + 0.3 * k))


def _blocks(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(who.wall, who.wall)
    near = rng.choice((-1, 1))
    s.disc(0.5 + 0.42 * near, 0.16, 0.3, who.wall_2)
    s.disc(0.5 - 0.45 * near, 0.86, 0.34, mix(who.wall_2, who.accent, 0.35), 0.8)
    for row in range(4):
        for column in range(4):
            s.disc(
                0.5 - 0.44 * near + 0.045 * column * near,
                0.1 + 0.045 * row,
                0.007,
                mix(who.accent, who.wall, 0.35),
            )


def _gradient(s: _Scene, who: Person, rng: random.Random) -> None:
    dark = luminance(who.wall) < 0.45
    s.all(mix(who.wall, WHITE, 0.06 if dark else 0.22), mix(who.wall_2, (0.1, 0.06, 0.14), 0.14), 0.2)
    s.glow(0.5 + 0.28 * who.light, 0.28, 0.75, WHITE, 0.16 if dark else 0.42)
    s.vignette(0.2)


def _room(s: _Scene, who: Person, rng: random.Random) -> None:
    """A shelf, a picture, a lamp and a plant, out of focus."""
    wall = mix(who.wall, rgb("#efe6da"), 0.45)
    s.all(mix(wall, WHITE, 0.2), mix(wall, (0.25, 0.18, 0.16), 0.2))
    left = rng.random() < 0.5
    at = 0.0 if left else 0.66
    wood = rgb(rng.choice(("#8a5f3f", "#6b4a35", "#b48a60", "#55423a")))
    for row in range(3):
        y = 0.08 + 0.26 * row
        s.box(at - 0.05, y + 0.19, 0.42, 0.035, wood, 1, 0.012)
        x = at
        while x < at + 0.3:
            w, h = rng.uniform(0.025, 0.05), rng.uniform(0.11, 0.18)
            colour = rng.choice(
                (who.accent, who.cloth, who.under, who.wall_2, rgb("#44566b"), rgb("#a8564a"), rgb("#c9b48b"))
            )
            s.box(x, y + 0.19 - h, w, h, mix(colour, wall, 0.2), 1, 0.011)
            x += w + rng.choice((0.004, 0.004, 0.05))
    other = 0.8 if left else 0.16
    s.box(other - 0.12, 0.12, 0.24, 0.3, mix(who.under, WHITE, 0.3), 0.95, 0.013)
    s.box(other - 0.085, 0.155, 0.17, 0.23, mix(who.wall_2, who.accent, 0.4), 0.9, 0.016)
    for k in range(7):
        dx, dy = rng.uniform(-0.11, 0.11), rng.uniform(-0.14, 0.06)
        s.disc(
            other + dx,
            0.72 + dy,
            rng.uniform(0.035, 0.06),
            mix(rgb("#4f7a52"), rgb("#8aa766"), k / 7),
            0.8,
            0.016,
        )
    s.glow(0.5 + 0.5 * who.light, 0.1, 0.9, rgb("#fff0d4"), 0.5)
    s.vignette(0.3)


def _window(s: _Scene, who: Person, rng: random.Random) -> None:
    """A bright window with a view, out of focus."""
    wall = mix(who.wall, rgb("#e9e2da"), 0.4)
    s.all(wall, mix(wall, (0.2, 0.16, 0.18), 0.28))
    x = 0.58 if who.light > 0 else -0.06
    s.box(x - 0.03, 0.0, 0.54, 0.78, mix(WHITE, wall, 0.25), 1, 0.012)
    s.box(x, 0.02, 0.48, 0.73, rgb("#d5e8f2"), 1, 0.012)
    for _ in range(8):
        s.disc(
            x + rng.uniform(0.02, 0.46),
            rng.uniform(0.45, 0.72),
            rng.uniform(0.04, 0.09),
            mix(rgb("#7fa37a"), rgb("#b9cf9f"), rng.random()),
            0.7,
            0.02,
        )
    s.box(x + 0.225, 0.02, 0.025, 0.73, mix(WHITE, wall, 0.2), 1, 0.008)
    s.box(x, 0.34, 0.48, 0.022, mix(WHITE, wall, 0.2), 1, 0.008)
    curtain = mix(who.wall_2, who.under, 0.5)
    edge = x - 0.1 if who.light > 0 else x + 0.44
    for k in range(5):
        s.box(edge + 0.03 * k, -0.05, 0.022, 1.0, mix(curtain, (0.2, 0.15, 0.2), 0.12 * (k % 2)), 0.9, 0.012)
    s.glow(x + 0.24, 0.3, 0.75, WHITE, 0.5)
    s.vignette(0.28)


def _landscape(s: _Scene, who: Person, rng: random.Random) -> None:
    sky, haze, land = rng.choice(
        (
            ("#8fbfe0", "#f3ead8", "#6d8f63"),
            ("#f2a97e", "#fbe3c0", "#6a5a6b"),
            ("#7d9cc9", "#f0d9d4", "#4f6f7d"),
            ("#a8d2d9", "#fbf3dc", "#8d9a5b"),
        )
    )
    s.all(rgb(sky), rgb(haze))
    s.glow(0.5 + 0.3 * who.light, 0.42, 0.5, rgb("#fff6e0"), 0.85)
    for _ in range(5):
        s.disc(rng.uniform(0, 1), rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.1), WHITE, 0.35, 0.03)
    for k in range(4):
        heights = [0.5 + 0.1 * k + rng.uniform(-0.07, 0.07) for _ in range(6)]
        s.ground(
            heights, mix(mix(rgb(haze), rgb(land), 0.35 + 0.2 * k), (0.1, 0.12, 0.16), 0.08 * k), 1, 0.012
        )
    s.vignette(0.22)


def _lights(s: _Scene, who: Person, rng: random.Random) -> None:
    """A street at night: discs of light."""
    top, bottom = rng.choice((("#1c2440", "#3d2b4a"), ("#142b38", "#31434c"), ("#2b1f35", "#5a3546")))
    s.all(rgb(top), rgb(bottom))
    for _ in range(34):
        colour = rgb(rng.choice(("#ffb45e", "#ff8a5c", "#ffe2a6", "#7fc7e8", "#f2709c", "#ffd07a")))
        x, y, r = rng.uniform(0, 1), rng.gauss(0.5, 0.2), rng.uniform(0.018, 0.055)
        s.disc(x, y, r, mix(colour, rgb(bottom), 0.2), rng.uniform(0.2, 0.6), 0.004)
    s.glow(0.5 + 0.45 * who.light, 0.4, 0.7, rgb("#ffc98a"), 0.25)
    s.vignette(0.45)


def paper(who: Person) -> Colour:
    """The sheet that a sketch is drawn on."""
    return (rgb("#f8f3e8"), rgb("#f4efe6"), rgb("#f3ede9"), rgb("#eef0ee"))[who.seed % 4]


def _paper(s: _Scene, who: Person, rng: random.Random) -> None:
    s.all(paper(who), mix(paper(who), (0.5, 0.42, 0.35), 0.05))


def _wash(s: _Scene, who: Person, rng: random.Random) -> None:
    """Water colour behind the head, with an uneven edge."""
    s.all(paper(who), paper(who))
    tint = mix(who.wall, who.wall_2, 0.5)
    for reach, alpha in ((0.4, 0.4), (0.375, 0.45), (0.35, 0.25)):
        turn = np.linspace(0, 2 * np.pi, 19)[:-1]
        radius = reach * (1 + np.array([rng.uniform(-0.08, 0.08) for _ in turn]))
        path = skia.Path()
        xs, ys = 0.5 + 1.08 * radius * np.cos(turn), 0.47 + radius * np.sin(turn)
        path.moveTo((xs[0] + xs[-1]) / 2, (ys[0] + ys[-1]) / 2)
        for k in range(len(turn)):
            n = (k + 1) % len(turn)
            path.quadTo(xs[k], ys[k], (xs[k] + xs[n]) / 2, (ys[k] + ys[n]) / 2)
        s.canvas.drawPath(path, s._paint(tint, alpha, 0.004))


_KINDS = {
    "plain": _plain,
    "disc": _disc,
    "arch": _arch,
    "hills": _hills,
    "blocks": _blocks,
    "gradient": _gradient,
    "room": _room,
    "window": _window,
    "landscape": _landscape,
    "lights": _lights,
    "paper": _paper,
    "wash": _wash,
}
