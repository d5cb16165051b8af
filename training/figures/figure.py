"""Draws a person, frame by frame.

    Figure(person(7), 256).frames(still(1))     # uint8 [1, 256, 256, 3]

What never changes (curves, backdrop) is made once; a frame projects the curves and paints them, back to front.
"""

from __future__ import annotations

import numpy as np
import skia

from . import backdrop, body, extras, eyes, head, mouth
from .curves import View
from .hair import cuts, paint
from .pen import Pen
from .person import Person
from .pose import Motion, Pose, poses

PIVOT = (0.0, 0.95, -0.25)
"""The head turns about this point, where the neck begins."""


class Figure:
    """One person at one size (pixels)."""

    def __init__(self, who: Person, size: int) -> None:
        self.who, self.size = who, size
        self._head, self._hair = head.build(who), cuts.build(who)
        self._backdrop = backdrop.draw(who, size)
        self._pixels = np.empty_like(self._backdrop)
        surface = skia.Surface(self._pixels, skia.kRGBA_8888_ColorType)
        self._surface = surface
        self._pen = Pen(surface.getCanvas(), who.style, who.scale * size, backdrop.paper(who))

    def views(self, how: Pose) -> tuple[View, View]:
        """The body's and the head's way to pixels."""
        who, size = self.who, self.size
        unit = who.scale * size
        x, y = (0.5 + who.x) * size, (0.5 + who.y) * size
        still = View(unit, x + 0.3 * how.dx * unit, y + (0.2 * how.dy - 0.03 * how.breath) * unit)
        moving = View(
            unit,
            x + how.dx * unit,
            y + (how.dy - 0.03 * how.breath) * unit,
            how.yaw,
            how.pitch,
            how.roll,
            PIVOT,
        )
        return still, moving

    def frames(self, motion: Motion) -> np.ndarray:
        """Pictures uint8 [T, size, size, 3]. ValueError as `pose.poses` says."""
        made = poses(motion)
        out = np.empty((len(made), self.size, self.size, 3), np.uint8)
        for picture, how in zip(out, made, strict=True):
            self._draw(how)
            picture[:] = self._pixels[..., :3]
        return out

    def _draw(self, how: Pose) -> None:
        who, pen, locks = self.who, self._pen, self._hair
        self._pixels[:] = self._backdrop
        still, view = self.views(how)
        paint.draw_back(pen, view, locks, who)
        body.draw(pen, still, view, self._head, who, how.open)
        paint.draw_under(pen, view, locks, who)
        head.draw_ears(pen, view, self._head, who)
        outline = head.draw(pen, view, self._head, who, how)
        extras.draw_beard(pen, view, outline, who, how)
        pen.ink(outline)
        mouth.draw(pen, view, who, how)
        extras.draw_moustache(pen, view, who, how)
        head.draw_nose(pen, view, who, how)
        paint.draw_shadow(pen, view, locks, outline, who)
        eyes.draw(pen, view, who, how)
        eyes.draw_brows(pen, view, who, how)
        paint.draw_front(pen, view, locks, who)
        head.draw_earrings(pen, view, who)
        extras.draw_glasses(pen, view, who)
