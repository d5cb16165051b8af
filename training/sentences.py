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


_QUIEN = """mi hermana|el viejo maestro|una joven doctora|nuestro vecino|todo el mundo|la abuela de Pablo
|un perro muy gordo"""
_HIZO = "abrió|pintó|olvidó|encontró|llevó|dibujó|vendió|miró|lavó|describió|rompió|construyó"
_QUE = """una barca azul|el puente de madera|cinco paraguas|un mapa de la luna|la primera página|mi taza favorita
|un pez enorme"""
_CUANDO = "ayer|antes de comer|a medianoche|el verano pasado|esta mañana|por primera vez|sin decir palabra"
_DICE = """Buenos días, ¿qué tal?|No lo sé todavía.|Muchas gracias por venir.|¡Qué buena idea!|Hasta mañana.
|Pase y siéntese, por favor."""
# Pinyin with tone numbers.
_SHEI = "wo3 de5 peng2you5|lao3shi1|yi2 wei4 yi1sheng1|wo3 mei4mei5|lin2ju1|da4jia1|ma1ma5"
_ZUO = "mai3 le5|hua4 le5|kan4 dao4 le5|wang4 le5|xi3huan5|zhao3 dao4 le5|xi3 le5|song4 gei3 wo3"
_SHENME = """yi1 ben3 shu1|hen3 da4 de5 yu2|hong2se4 de5 che1|wu3 ba3 yu3san3|xin1 fang2zi5|yi1 shou3 ge1
|bei1zi5"""
_SHIHOU = """zuo2tian1|jin1tian1 zao3shang5|wan3fan4 yi3qian2|qu4nian2 xia4tian1|ba1 dian3 ban4
|mei3 ge5 xing1qi1"""
_SHUO = "Ni3 hao3, huan1ying2.|Xie4xie5 ni3.|Wo3 bu4 zhi1dao4.|Zai4jian4.|Zhe4 shi4 shen2me5?|Qing3 zuo4, he1 cha2."
_QUIEN, _HIZO, _QUE, _CUANDO, _DICE, _SHEI, _ZUO, _SHENME, _SHIHOU, _SHUO = (
    words.replace("\n", "").split("|")
    for words in (_QUIEN, _HIZO, _QUE, _CUANDO, _DICE, _SHEI, _ZUO, _SHENME, _SHIHOU, _SHUO)
)


def sentence(rng: random.Random, language: str = "en") -> str:
    """One sentence in English, Spanish ("es") or Mandarin ("cmn", as pinyin); the same generator state gives the
    same sentence."""
    pick = rng.choice
    english = (
        lambda: f"{pick(_WHO)} {pick(_DOES)} {pick(_WHAT)} {pick(_WHERE)}, {pick(_WHEN)}.",
        lambda: f"{pick(_WHEN)}, {pick(_WHO)} {pick(_DOES)} {pick(_WHAT)}.",
        lambda: f"did you know that {pick(_WHO)} {pick(_DOES)} {pick(_WHAT)}?",
        lambda: f"{pick(_WHAT)} {pick(_WHERE)} is {pick(_IS)}, and {pick(_WHAT)} is {pick(_IS)}.",
        lambda: pick(_SAYS),
    )
    spanish = (
        lambda: f"{pick(_QUIEN)} {pick(_HIZO)} {pick(_QUE)} {pick(_CUANDO)}.",
        lambda: f"{pick(_CUANDO)}, {pick(_QUIEN)} {pick(_HIZO)} {pick(_QUE)}.",
        lambda: pick(_DICE),
    )
    mandarin = (
        lambda: f"{pick(_SHIHOU)} {pick(_SHEI)} {pick(_ZUO)} {pick(_SHENME)}.",
        lambda: (
            f"{pick(_SHEI)} {pick(_SHIHOU)} {pick(_ZUO)} {pick(_SHENME)}, {pick(_SHEI)} ye3 {pick(_ZUO)}."
        ),
        lambda: pick(_SHUO),
    )
    text = pick({"en": english, "es": spanish, "cmn": mandarin}[language])()
    return text[0].upper() + text[1:]
