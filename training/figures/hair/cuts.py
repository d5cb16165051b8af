"""All styles of hair by name."""

from __future__ import annotations

from ..person import Person
from . import covered, loose, short, tied
from .paint import Hair


def build(who: Person) -> Hair:
    """The hair of a person; `person.CUTS` has the names."""
    return _CUTS[who.cut](who)


_CUTS = {
    "crop": short.crop,
    "parted": short.parted,
    "quiff": short.quiff,
    "swept": short.swept,
    "curls": short.curls,
    "afro": short.afro,
    "bald": short.bald,
    "ring": short.ring,
    "bob": loose.bob,
    "long": loose.long,
    "waves": loose.waves,
    "bun": tied.bun,
    "tail": tied.tail,
    "pixie": short.pixie,
    "braids": tied.braids,
    "scarf": covered.scarf,
    "beanie": covered.beanie,
}
