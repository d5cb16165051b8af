"""All styles of hair by name."""

from __future__ import annotations

from . import long_hair, short_hair
from .hair import Hair
from .person import Person


def build(who: Person) -> Hair:
    """The hair of a person; `person.CUTS` has the names."""
    return _CUTS[who.cut](who)


_CUTS = {
    "crop": short_hair.crop,
    "parted": short_hair.parted,
    "quiff": short_hair.quiff,
    "swept": short_hair.swept,
    "curls": short_hair.curls,
    "afro": short_hair.afro,
    "bald": short_hair.bald,
    "ring": short_hair.ring,
    "bob": long_hair.bob,
    "long": long_hair.long,
    "waves": long_hair.waves,
    "bun": long_hair.bun,
    "tail": long_hair.tail,
    "pixie": short_hair.pixie,
    "braids": long_hair.braids,
    "scarf": long_hair.scarf,
    "beanie": long_hair.beanie,
}
