"""Where a person's face, mouth and eyes are."""

from __future__ import annotations

from .person import Person

Box = tuple[float, float, float, float]


def boxes(who: Person) -> dict[str, Box]:
    """Face, mouth and eyes of a person at rest: left, top, right and bottom in parts of the picture."""
    x, y, unit = 0.5 + who.x, 0.5 + who.y, who.scale

    def box(half: float, above: float, below: float) -> Box:
        return x - half * unit, y + above * unit, x + half * unit, y + below * unit

    return {
        "face": box(1.0, -1.34, 1.22),
        "mouth": box(1.4 * who.mouth_w, who.mouth_y - 0.2, who.mouth_y + 0.48),
        "eyes": box(who.eye_x + 1.45 * who.eye_w, who.eye_y - 0.28, who.eye_y + 0.2),
    }
