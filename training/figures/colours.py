"""Chosen colours: skins, hair, lips and schemes that go together. A colour is (r, g, b) in 0..1."""

from __future__ import annotations

Colour = tuple[float, float, float]


def rgb(name: str) -> Colour:
    """The colour of "#rrggbb"."""
    return tuple(int(name[i : i + 2], 16) / 255 for i in (1, 3, 5))


def mix(a: Colour, b: Colour, part: float) -> Colour:
    """`part` of `b` in `a`."""
    return tuple(x + (y - x) * part for x, y in zip(a, b, strict=True))


def times(a: Colour, b: Colour) -> Colour:
    """`a` seen through `b`, as pigments multiply."""
    return tuple(x * y for x, y in zip(a, b, strict=True))


def luminance(a: Colour) -> float:
    return 0.3 * a[0] + 0.59 * a[1] + 0.11 * a[2]


WHITE, INK = rgb("#ffffff"), rgb("#2b2430")

SKIN = [
    (rgb(base), rgb(shade), rgb(lip))
    for base, shade, lip in (
        ("#fbdccb", "#eeb49c", "#d9787a"),
        ("#f7d0b4", "#e3a384", "#cf6d6b"),
        ("#f3c6a0", "#dc9a72", "#c8685f"),
        ("#ecb78e", "#d08c62", "#bd5f55"),
        ("#dca073", "#b9764c", "#ac5450"),
        ("#c5865a", "#9e6039", "#9b4a47"),
        ("#a76a44", "#814a2c", "#8a4245"),
        ("#87502f", "#64371f", "#7a3a40"),
        ("#6b3f28", "#4c2a1b", "#70363c"),
        ("#f6cdbd", "#e0a193", "#d0706f"),
    )
]
"""Base, shadow and lips, light to dark."""

HAIR = [
    (rgb(base), rgb(dark), rgb(light))
    for base, dark, light in (
        ("#2a2229", "#17121a", "#5b4a5c"),
        ("#3b2a26", "#231715", "#745148"),
        ("#5a3a2a", "#3a2319", "#97664a"),
        ("#7d4e2f", "#563320", "#b97f50"),
        ("#a9713f", "#7d4f29", "#dba871"),
        ("#d9a860", "#ad7c3d", "#f4d596"),
        ("#ecd09a", "#c5a268", "#fbecc9"),
        ("#b5512c", "#84361c", "#e58a58"),
        ("#8d2f2b", "#611e20", "#c2605a"),
        ("#a3a3a8", "#777780", "#d8d8dc"),
        ("#e4e1de", "#b9b5b4", "#faf8f6"),
    )
]
GREY = (9, 10)
DYED = [
    (rgb(base), rgb(dark), rgb(light))
    for base, dark, light in (
        ("#3f6f8f", "#28495f", "#7fb0cc"),
        ("#c9688c", "#974566", "#f0a5be"),
        ("#6a5aa0", "#473b72", "#a698d6"),
        ("#3d8577", "#265a50", "#7dc2b2"),
    )
]

IRIS = [
    rgb(c) for c in ("#5b3a23", "#3c2a22", "#7a5227", "#4b79a1", "#5f93a8", "#5c8050", "#7f8a55", "#6d7a86")
]

SCHEMES = [
    tuple(rgb(c) for c in row)
    for row in (
        # wall, wall's second tone, clothes, clothes beneath, accent
        ("#f4c9a8", "#e9ad86", "#2f4858", "#f6efe4", "#e4572e"),
        ("#bfdbe0", "#9cc4cc", "#e0724a", "#fdf3e3", "#28536b"),
        ("#f2d8d8", "#e4bcc0", "#5d576b", "#f8f0f0", "#d1495b"),
        ("#cfe0c3", "#aecb9d", "#40798c", "#fffaf0", "#f2a65a"),
        ("#f6e2b3", "#ecc982", "#46617a", "#ffffff", "#c8553d"),
        ("#3d5a73", "#2c4356", "#e8b04b", "#f4ead6", "#e76f51"),
        ("#d8cfe8", "#bcaed6", "#3f826d", "#fbf7ff", "#f2b5a7"),
        ("#274c4a", "#1b3837", "#d98a6c", "#f6e7d8", "#f0c987"),
        ("#f0ece2", "#dcd5c5", "#8a4f4d", "#ffffff", "#4a6c6f"),
        ("#e7b7a0", "#d6957a", "#39445c", "#f7e9dc", "#7fa99b"),
        ("#a9c7e2", "#83abd0", "#39395f", "#fdfdfd", "#f4b860"),
        ("#5b4b6b", "#43364f", "#dfa8a0", "#f7ecec", "#8fc1b5"),
        ("#dfe6e9", "#c3ced3", "#2d6a6a", "#f9fbfb", "#e39f5c"),
        ("#f7b89c", "#ee9a79", "#6d597a", "#fff4ec", "#355070"),
        ("#88b5a5", "#6a9b8a", "#f0e0c6", "#fffaf2", "#b5503c"),
        ("#2f3e55", "#222d40", "#b8c4d6", "#eef2f8", "#e9806e"),
    )
]
