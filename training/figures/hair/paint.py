"""Hair as volumes: what lies behind the body, what lies on the head and in front of it, shine and strands."""

from __future__ import annotations

from dataclasses import dataclass, field

import skia

from ..colours import WHITE, mix
from ..curves import Cubic, View
from ..pen import Pen
from ..person import Person

BASE, DARK, LIGHT, ACCENT, CLOTH = range(5)


@dataclass
class Hair:
    """Closed curves with their tone, in the order in which they are painted."""

    back: list[tuple[Cubic, int]] = field(default_factory=list)
    """Behind neck and shoulders."""
    front: list[tuple[Cubic, int]] = field(default_factory=list)
    """On the head, over face and ears."""
    shade: list[Cubic] = field(default_factory=list)
    """What of the front throws a shadow on the face."""
    strands: list[Cubic] = field(default_factory=list)
    shine: list[Cubic] = field(default_factory=list)
    under: list[tuple[Cubic, int]] = field(default_factory=list)
    """Behind head and ears: what shows where a turned head no longer fills its hair."""


def tone(who: Person, which: int):
    """The colour of a tone: base, dark and light of the hair, the accent or the clothes."""
    return (who.hair, mix(who.hair, who.hair_dark, 0.75), who.hair_light, who.accent, who.cloth)[which]


def draw_back(pen: Pen, view: View, hair: Hair, who: Person) -> None:
    for cubic, which in hair.back:
        path = view.path(cubic)
        colour = tone(who, which)
        pen.fill(path, colour)
        if pen.soft:
            x, y = view.spot(0, 0.95)
            pen.glow(path, (x, y), (1.1 * pen.unit, 1.0 * pen.unit), mix(who.hair_dark, (0, 0, 0), 0.35), 0.6)
            x, y = view.spot(0.14 * who.light, -1.85, -0.3)
            pen.glow(path, (x, y), (0.32 * pen.unit, 0.24 * pen.unit), who.hair_light, 0.6)
        pen.ink(path)


def draw_under(pen: Pen, view: View, hair: Hair, who: Person) -> None:
    for cubic, which in hair.under:
        path = view.path(cubic)
        pen.fill(path, tone(who, which))
        pen.ink(path)


def draw_shadow(pen: Pen, view: View, hair: Hair, head: skia.Path, who: Person) -> None:
    """The shadow of the front hair on the face, below it and away from the light."""
    if not hair.shade:
        return
    with pen.inside(head):
        pen.canvas.translate(-0.03 * who.light * pen.unit, 0.085 * pen.unit)
        for cubic in hair.shade:
            pen.blurred(view.path(cubic), mix(who.shade, who.hair_dark, 0.18), 0.7, 0.05)


def draw_front(pen: Pen, view: View, hair: Hair, who: Person) -> None:
    whole = skia.Path()
    for cubic, which in hair.front:
        path = view.path(cubic)
        whole.addPath(path)
        pen.fill(path, tone(who, which))
        if pen.soft:
            _light(pen, view, path, who, which)
        pen.ink(path)
    if hair.front:
        with pen.inside(whole):
            _strands(pen, view, hair, who)
    else:
        _strands(pen, view, hair, who)


def _strands(pen: Pen, view: View, hair: Hair, who: Person) -> None:
    """Shine and single strands; on a bald head the shine alone."""
    worn = bool(hair.front) and hair.front[-1][1] == ACCENT  # a scarf has folds, a cap has ribs
    strand = mix(who.accent, (0.1, 0.05, 0.1), 0.4) if worn else mix(who.hair, who.hair_dark, 0.8)
    shine = mix(who.hair, who.hair_light, 0.75) if hair.front else mix(who.skin, WHITE, 0.5)
    for cubic in hair.shine:
        path = view.path(cubic)
        if pen.soft:
            pen.blurred(path, mix(shine, WHITE, 0.12), 0.6, 0.035)
        elif not pen.sketch:
            pen.fill(path, shine, 0.75)
    for cubic in hair.strands:
        path = view.path(cubic)
        if pen.sketch:
            pen.fill(path, mix(who.hair_dark, (0.12, 0.1, 0.14), 0.6), 0.85)
        else:
            pen.fill(path, strand, 0.6 if pen.soft else 0.75)


def _light(pen: Pen, view: View, path: skia.Path, who: Person, which: int) -> None:
    base = tone(who, which)
    dark = mix(base, (0.05, 0.02, 0.06), 0.42)
    light = who.hair_light if which in (BASE, DARK) else mix(base, WHITE, 0.45)
    unit = pen.unit
    pen.glow(path, view.spot(-who.light * 1.25, -0.3), (0.95 * unit, 1.7 * unit), dark, 0.75)
    pen.glow(path, view.spot(who.light * 0.55, -1.15, 0.4), (0.85 * unit, 0.6 * unit), light, 0.6)
