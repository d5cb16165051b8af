"""Who is drawn: one person from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .colours import DYED, GREY, HAIR, IRIS, SCHEMES, SKIN, Colour, luminance, mix
from .pen import FLAT, SKETCH, SOFT

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in parts of the picture."""

CUTS = {
    # name: how likely for a person who is not / who is feminine
    "crop": (3.0, 0.3),
    "parted": (3.0, 0.4),
    "quiff": (2.4, 0.2),
    "swept": (2.0, 0.8),
    "curls": (1.6, 1.2),
    "afro": (0.9, 1.1),
    "bald": (1.0, 0.0),
    "ring": (0.9, 0.0),
    "bob": (0.2, 2.6),
    "long": (0.5, 3.0),
    "waves": (0.3, 2.6),
    "bun": (0.5, 1.8),
    "tail": (0.2, 1.8),
    "pixie": (0.3, 1.6),
    "braids": (0.0, 0.9),
    "scarf": (0.0, 1.0),
    "beanie": (0.9, 0.7),
}
FACES = {
    # cheekbones, jaw, chin, length: factors on the outline
    "oval": (1.0, 1.0, 1.0, 1.0),
    "round": (1.03, 1.06, 1.12, 0.95),
    "square": (1.0, 1.11, 1.25, 0.99),
    "heart": (1.01, 0.94, 0.86, 0.98),
    "long": (0.97, 1.01, 1.02, 1.06),
    "diamond": (1.03, 0.95, 0.95, 1.01),
}
TOPS = ("crew", "vee", "shirt", "roll", "hood", "jacket", "scoop", "stripes")
BACKDROPS = {
    FLAT: ("plain", "disc", "arch", "hills", "blocks"),
    SOFT: ("gradient", "room", "window", "landscape", "lights", "disc"),
    SKETCH: ("paper", "wash", "wash", "plain"),
}


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of one person. Lengths are in half head widths."""

    seed: int
    style: str
    backdrop: str
    feminine: bool
    age: float  # 0 twenty .. 1 eighty
    face: str
    cut: str
    top: str
    skin: Colour
    shade: Colour
    lip: Colour
    hair: Colour
    hair_dark: Colour
    hair_light: Colour
    iris: Colour
    wall: Colour
    wall_2: Colour
    cloth: Colour
    under: Colour
    accent: Colour
    light: int  # -1 from the left, 1 from the right
    eye_x: float
    eye_y: float
    eye_w: float
    eye_h: float
    eye_tilt: float
    brow_y: float
    brow_h: float
    brow_tilt: float
    nose_w: float
    nose_y: float
    mouth_y: float
    mouth_w: float
    lip_up: float
    lip_low: float
    corners: float
    blush: float
    freckles: bool
    glasses: str
    beard: str
    earring: bool
    ear: float
    shoulders: float
    part: int
    volume: float
    scale: float
    x: float
    y: float


def person(seed: int, style: str | None = None) -> Person:
    """The person of this seed. `style` (one of `pen.STYLES`) changes how the same person is drawn."""
    rng = random.Random(seed)
    drawn = rng.choice((FLAT, SOFT, SOFT, SKETCH))
    style = style or drawn
    feminine = rng.random() < 0.5
    age = rng.choice((0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.85)) + rng.uniform(-0.08, 0.08)
    base, shade, lip = rng.choice(SKIN)
    near = rng.uniform(0, 0.3)
    other = rng.choice(SKIN)
    if abs(luminance(base) - luminance(other[0])) < 0.12:
        base, shade, lip = (mix(a, b, near) for a, b in zip((base, shade, lip), other, strict=True))
    cut = rng.choices(list(CUTS), [pair[feminine] for pair in CUTS.values()])[0]
    hair, dark, light = _hair(rng, age, luminance(base))
    scheme = _scheme(rng, base, hair)
    lip = mix(lip, mix(base, shade, 0.5), rng.uniform(0.0, 0.25) if feminine else rng.uniform(0.35, 0.6))
    unshaven = not feminine and age > 0.12
    beard = rng.choices(("none", "stubble", "full", "goatee", "moustache"), (5, 1.6, 1.7, 0.9, 0.7))[0]
    return Person(
        seed=seed,
        style=style,
        backdrop=rng.choice(BACKDROPS[style]),
        feminine=feminine,
        age=age,
        face=rng.choice([name for name in FACES if not (feminine and name == "square")]),
        cut=cut,
        top=rng.choice(TOPS if feminine else TOPS[:-2] + TOPS[-1:]) if cut != "scarf" else "crew",
        skin=base,
        shade=shade,
        lip=lip,
        hair=hair,
        hair_dark=dark,
        hair_light=light,
        iris=rng.choice(IRIS[:3] if luminance(base) < 0.55 else IRIS),
        wall=scheme[0],
        wall_2=scheme[1],
        cloth=scheme[2],
        under=scheme[3],
        accent=scheme[4],
        light=rng.choice((-1, 1)),
        eye_x=rng.uniform(0.385, 0.43),
        eye_y=rng.uniform(-0.01, 0.05),
        eye_w=rng.uniform(0.2, 0.23) + 0.012 * feminine,
        eye_h=rng.uniform(0.125, 0.155) + 0.022 * feminine - 0.02 * age,
        eye_tilt=rng.uniform(-0.015, 0.035),
        brow_y=rng.uniform(0.27, 0.32) + 0.02 * feminine,
        brow_h=rng.uniform(0.062, 0.085) * (0.78 if feminine else 1.1),
        brow_tilt=rng.uniform(-0.03, 0.025),
        nose_w=rng.uniform(0.13, 0.185) * (0.9 if feminine else 1.08),
        nose_y=rng.uniform(0.39, 0.44),
        mouth_y=rng.uniform(0.735, 0.775),
        mouth_w=rng.uniform(0.33, 0.385),
        lip_up=rng.uniform(0.055, 0.075) + 0.012 * feminine,
        lip_low=rng.uniform(0.08, 0.105) + 0.018 * feminine,
        corners=rng.uniform(0.035, 0.075),
        blush=rng.uniform(0.2, 0.6) * (1.0 if feminine else 0.6),
        freckles=rng.random() < 0.14 and luminance(base) > 0.6,
        glasses=rng.choices(("none", "round", "square", "cat"), (6, 1, 1.1, 0.7 * feminine))[0],
        beard=beard if unshaven else "none",
        earring=feminine and rng.random() < 0.45,
        ear=rng.uniform(0.9, 1.1),
        shoulders=(rng.uniform(1.5, 1.68) if feminine else rng.uniform(1.78, 1.98)),
        part=rng.choice((-1, 1)),
        volume=rng.uniform(0.85, 1.2),
        scale=rng.uniform(0.2, 0.218),
        x=rng.uniform(-0.015, 0.015),
        y=rng.uniform(-0.055, -0.035),
    )


def _hair(rng: random.Random, age: float, skin: float) -> tuple[Colour, Colour, Colour]:
    """Base, dark and light of the hair: grey comes with age, fair hair with fair skin, dyes with youth."""
    if rng.random() < 1.6 * (age - 0.45):
        return HAIR[rng.choice(GREY)]
    if age < 0.35 and rng.random() < 0.1:
        return rng.choice(DYED)
    return rng.choice(HAIR[:9] if skin > 0.72 else HAIR[:4] if skin > 0.5 else HAIR[:2])


def _scheme(rng: random.Random, skin: Colour, hair: Colour) -> tuple[Colour, ...]:
    """A scheme whose wall is told apart from skin and hair, and whose clothes are told apart from the skin."""

    def far(a: Colour, b: Colour) -> float:
        return sum(abs(x - y) for x, y in zip(a, b, strict=True))

    good = [s for s in SCHEMES if far(s[0], skin) > 0.4 and far(s[0], hair) > 0.5 and far(s[2], skin) > 0.45]
    return rng.choice(good or SCHEMES)


def boxes(who: Person) -> dict[str, Box]:
    """Face, mouth and eyes of a person at rest."""
    x, y, unit = 0.5 + who.x, 0.5 + who.y, who.scale

    def box(half: float, above: float, below: float) -> Box:
        return x - half * unit, y + above * unit, x + half * unit, y + below * unit

    return {
        "face": box(1.0, -1.34, 1.22),
        "mouth": box(1.4 * who.mouth_w, who.mouth_y - 0.2, who.mouth_y + 0.48),
        "eyes": box(who.eye_x + 1.45 * who.eye_w, who.eye_y - 0.28, who.eye_y + 0.2),
    }
