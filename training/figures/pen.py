"""How things are put on the canvas in each style: fills, soft light, lines, hatching."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import skia

from .colours import INK, WHITE, Colour, mix

FLAT, SOFT, SKETCH = STYLES = ("flat", "soft", "sketch")


def _packed(colour: Colour, alpha: float = 1.0) -> int:
    r, g, b = (min(max(c, 0.0), 1.0) for c in colour)
    return skia.Color4f(r, g, b, alpha).toColor()


class Pen:
    """Draws paths on `canvas`; `unit` is how many pixels half of a head's width has."""

    def __init__(self, canvas: skia.Canvas, style: str, unit: float, paper: Colour) -> None:
        self.canvas, self.style, self.unit, self.paper = canvas, style, unit, paper
        self.sketch, self.soft = style == SKETCH, style == SOFT
        self._hatch = _hatching(unit) if self.sketch else None

    def fill(self, path: skia.Path, colour: Colour, alpha: float = 1.0) -> None:
        """Cover a path; a sketch is tinted as thin paint tints paper."""
        if self.sketch:
            colour = mix(colour, self.paper, 0.14)
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=_packed(colour, alpha)))

    def graded(self, path: skia.Path, top: Colour, bottom: Colour, start, end) -> None:
        """Cover a path with a run of two colours from pixel `start` to pixel `end`; one colour in the flat style."""
        if not self.soft:
            self.fill(path, mix(top, bottom, 0.35))
            return
        shader = skia.GradientShader.MakeLinear(
            [skia.Point(*start), skia.Point(*end)], [_packed(top), _packed(bottom)]
        )
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))

    def glow(self, path: skia.Path, centre, size, colour: Colour, alpha: float, hold: float = 0.0) -> None:
        """A soft spot of `colour` inside a path: `centre` and half-sizes in pixels, even out to the part `hold`."""
        matrix = skia.Matrix()
        matrix.setScale(*size)
        matrix.postTranslate(*centre)
        stops = [0.0, 0.001 + hold, 0.55 + 0.45 * hold, 1.0]
        colours = [_packed(colour, alpha * a) for a in (1, 1, 0.42, 0)]
        shader = skia.GradientShader.MakeRadial(
            skia.Point(0, 0), 1.0, colours, stops, skia.TileMode.kClamp, 0, matrix
        )
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))

    def blurred(self, path: skia.Path, colour: Colour, alpha: float, reach: float) -> None:
        """A path with an edge that is soft over `reach` units; sharp in the flat style, hatched in a sketch."""
        if self.sketch:
            self.hatch(path, alpha)
            return
        paint = skia.Paint(AntiAlias=True, Color=_packed(colour, alpha))
        if self.soft:
            paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, reach * self.unit, False))
        self.canvas.drawPath(path, paint)

    def hatch(self, path: skia.Path, alpha: float) -> None:
        """Slanted pencil lines over a path."""
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=self._hatch, Alphaf=min(1.0, alpha)))

    def line(self, path: skia.Path, colour: Colour, width: float, alpha: float = 1.0) -> None:
        """A stroke, `width` in units, with round ends."""
        self.canvas.drawPath(
            path,
            skia.Paint(
                AntiAlias=True,
                Color=_packed(colour, alpha),
                Style=skia.Paint.kStroke_Style,
                StrokeWidth=max(width * self.unit, 0.6),
                StrokeCap=skia.Paint.kRound_Cap,
                StrokeJoin=skia.Paint.kRound_Join,
            ),
        )

    def ink(self, path: skia.Path, width: float = 0.034) -> None:
        """The outline of a sketch, as two passes of a pencil that do not quite meet; nothing in other styles."""
        if not self.sketch:
            return
        self.line(path, INK, width, 0.82)
        self.canvas.save()
        self.canvas.translate(0.018 * self.unit, -0.014 * self.unit)
        self.line(path, INK, width * 0.6, 0.4)
        self.canvas.restore()

    @contextmanager
    def inside(self, path: skia.Path, without: skia.Path | None = None):
        """Draw only inside a path, and outside another one."""
        self.canvas.save()
        self.canvas.clipPath(path, True)
        if without is not None:
            self.canvas.clipPath(without, skia.ClipOp.kDifference, True)
        yield
        self.canvas.restore()


def _hatching(unit: float) -> skia.Shader:
    """A tile of slanted lines."""
    tile = 24
    y, x = np.mgrid[:tile, :tile] + 0.5
    phase = ((x + y) / tile * 4) % 1
    line = np.clip(1.6 - np.abs(phase - 0.5) * 6.5, 0, 1)
    picture = np.zeros((tile, tile, 4), np.uint8)
    picture[..., :3] = np.round(np.array(INK) * 255)
    picture[..., 3] = np.round(line * 110)
    image = skia.Image.fromarray(picture, skia.kRGBA_8888_ColorType)
    matrix = skia.Matrix()
    matrix.setScale(unit * 0.36 / tile, unit * 0.36 / tile)
    repeat = skia.TileMode.kRepeat
    return image.makeShader(repeat, repeat, skia.SamplingOptions(skia.FilterMode.kLinear), matrix)


__all__ = ["FLAT", "SKETCH", "SOFT", "STYLES", "WHITE", "Pen"]
