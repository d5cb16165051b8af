"""People, voices and texts that no training has seen, as the talker gets them and as a program draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.corpus import HELD_OUT_VARIANTS
from training.examples import say
from training.figures.clips import Drawers
from training.figures.measure import Reader
from training.figures.motion import talking
from training.figures.person import Person, person
from training.figures.pose import still
from training.motion import FPS, frames_of
from training.speech import Speaker

FIRST_SEED = 2**31
"""The trainers draw people of smaller seeds only."""
PAUSE = 1.2
TEXTS = {
    # Mandarin in pinyin, since espeak-ng 1.51 reads Chinese characters as the English names of what it makes of them
    "English": (
        ("en-us", "The train to the coast leaves at a quarter past seven.", "Did somebody call?"),
        ("en", "Most birds fly south before the snow.", "Some of them stay here, all winter long."),
        ("en-us", "Pour the milk slowly, then beat five eggs.", "A pinch of salt, and it is done!"),
    ),
    "Spanish": (
        ("es", "El tren llega a las ocho de la mañana.", "¿Quién viene con nosotros a la playa?"),
        ("es", "Mi abuela prepara una sopa de tomate.", "Todos los domingos comemos juntos."),
        ("es", "Me gusta caminar bajo la lluvia.", "El río baja muy lleno, pero no hay peligro."),
    ),
    "Mandarin": (
        ("cmn-latn-pinyin", "jin1 tian1 tian1 qi4 hen3 hao3.", "wo3 men5 yi4 qi3 qu4 gong1 yuan2 ba5."),
        ("cmn-latn-pinyin", "wo3 zui4 xi3 huan1 chi1 ping2 guo3.", "ni3 ma1 ma5 zai4 na3 li5 gong1 zuo4?"),
        ("cmn-latn-pinyin", "huo3 che1 ba1 dian3 kai1.", "qing3 ni3 men5 bu2 yao4 wang4 le5 dai4 san3."),
    ),
}
"""Voice, and two sentences with a pause between them, by language."""


@dataclass(frozen=True)
class Speaking:
    """Somebody who says something.

    Attributes:
        samples: mono [S] at 16 kHz.
        opening: how far the mouth should be open [F], at 25 frames a second.
        portrait: the person at rest, pixels [1, 3, 1, size, size] in [-1, 1].
        drawn: the person as a program draws the same speech, uint8 [F, size, size, 3].
        reader: reads this person's mouth and lids off pixels.
    """

    language: str
    who: Person
    samples: Tensor
    opening: Tensor
    portrait: Tensor
    drawn: Tensor
    reader: Reader

    @property
    def frames(self) -> int:
        return len(self.opening)


def sayings(clips: int, seconds: float) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Language, samples and mouth shapes [F, 3] at 25 frames a second of `clips` sayings, cut or filled with silence
    to `seconds`; the languages take turns, each saying has a voice of its own."""
    speaker, made, frames = Speaker(), [], round(seconds * FPS)
    every = [(language, texts[k]) for k in range(3) for language, texts in TEXTS.items()]
    if not 1 <= clips <= len(every):
        raise ValueError(f"Choose 1 to {len(every)} clips: there are texts for so many.")
    for number, (language, (tongue, *sentences)) in enumerate(every[:clips]):
        voice = f"{tongue}+{HELD_OUT_VARIANTS[number]}"
        parts = [say(speaker, text, voice, 165, before=0.4, after=PAUSE) for text in sentences]
        sound = _exactly(np.concatenate([part.sound for part in parts]), round(seconds * 16_000))
        track = torch.from_numpy(np.concatenate([part.track for part in parts]))
        made.append((language, sound.astype(np.float32), frames_of(track, 0.0, frames).numpy()))
    return made


def held_out(clips: int, seconds: float, size: int, drawers: Drawers, examples: int = 900) -> list[Speaking]:
    """People who say `sayings`, each read by a reader that has seen so many `examples` of the person."""
    said = sayings(clips, seconds)
    people = [person(FIRST_SEED + number) for number in range(clips)]
    motions = [
        talking(shapes, np.random.default_rng(number), "calm", lead=0)
        for number, (_, _, shapes) in enumerate(said)
    ]
    portraits = drawers(people, [still(1)] * clips, size).float() / 127.5 - 1
    drawn = drawers(people, motions, size).permute(0, 2, 3, 4, 1)
    readers = drawers.readers(people, size, examples)
    return [
        Speaking(
            language,
            people[i],
            torch.from_numpy(sound),
            torch.from_numpy(motions[i]["open"]).float(),
            portraits[i : i + 1],
            drawn[i],
            readers[i],
        )
        for i, (language, sound, _) in enumerate(said)
    ]


def _exactly(sound: np.ndarray, count: int) -> np.ndarray:
    return np.pad(sound, (0, max(0, count - len(sound))))[:count]
