# ruff: noqa: SIM905
"""Endless plain sentences from a small grammar, so that the speech corpus needs no text of anybody else."""

from __future__ import annotations

import random

_WHO = """my brother|the old teacher|a young pilot|our neighbour|everybody|nobody|the baker's wife|George|Amelia
|a very polite robot|the mayor|your best friend|the whole village|a quiet farmer|Professor Plum|the orchestra
|that funny parrot|a team of engineers|the woman with the umbrella|Bob and Mary""".replace("\n", "").split(
    "|"
)
_DOES = """opened|painted|forgot|discovered|borrowed|repaired|wrapped|photographed|admired|sold|measured|imagined
|lost|found|carried|washed|described|finished|planted|watched|built|moved""".replace("\n", "").split("|")
_WHAT = """a blue boat|the wooden bridge|five purple umbrellas|a map of the moon|the first chapter|an enormous pumpkin
|my favourite cup|the heavy piano|a bowl of cherry soup|some fresh peppermint|the garden gate|a box of old photographs
|the winding river|a beautiful song|every single window|the theory of waves|a jar of honey|two shiny shoes
|the evening news|a paper aeroplane""".replace("\n", "").split("|")
_WHEN = """yesterday|before breakfast|on a foggy Tuesday|in the middle of the night|last summer|after the thunderstorm
|this very morning|at half past four|once upon a time|in nineteen eighty five|every now and then|just in time
|for the first time|without a word""".replace("\n", "").split("|")
_WHERE = """by the harbour|in the kitchen|above the clouds|behind the museum|at the top of the hill|near the old mill
|under the apple tree|between two cities|on the other side of the world|in front of the theatre|at home
|along the beach""".replace("\n", "").split("|")
_SAYS = """Good morning, and welcome.|How do you do?|I really don't know.|Oh, wow!|Please come in and sit down.
|What a wonderful idea!|Maybe we should wait a moment.|Thank you very much.|Let me think about that.|That is true.
|See you tomorrow.|One, two, three, four, five, six, seven.|Why not?|Move over, please.|Be careful with the paint.
|I beg your pardon.|You would love it there.|We had fish and chips for lunch.|My name is Emma.""".replace(
    "\n", ""
).split("|")
_IS = (
    "wonderful|rather boring|impossible|warm and bright|smooth|a little bit strange|over|full of bees".split(
        "|"
    )
)


def sentence(rng: random.Random) -> str:
    """One sentence; the same generator state gives the same sentence."""
    pick = rng.choice
    forms = (
        lambda: f"{pick(_WHO)} {pick(_DOES)} {pick(_WHAT)} {pick(_WHERE)}, {pick(_WHEN)}.",
        lambda: f"{pick(_WHEN)}, {pick(_WHO)} {pick(_DOES)} {pick(_WHAT)}.",
        lambda: f"did you know that {pick(_WHO)} {pick(_DOES)} {pick(_WHAT)}?",
        lambda: f"{pick(_WHAT)} {pick(_WHERE)} is {pick(_IS)}, and {pick(_WHAT)} is {pick(_IS)}.",
        lambda: pick(_SAYS),
    )
    text = pick(forms)()
    return text[0].upper() + text[1:]
