"""Prompts from choices: sentences for a model that is steered by text, in the order in which it was trained to read.

A prompt says who is seen, in which clothes and where; then what the face does while the person speaks, how head and
hands move, where the eyes look; then camera, light and style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EMOTIONS = {
    "neutral": "speaks calmly, with a relaxed face and natural lip movements",
    "friendly": "speaks with a warm, gentle smile, and the corners of the eyes crease lightly",
    "happy": "speaks with a bright smile, raised cheeks and shining eyes",
    "excited": "speaks with wide open eyes, raised eyebrows and a broad smile",
    "serious": "speaks with a steady look, firm lips and a calm brow",
    "thoughtful": "speaks slowly, with slightly drawn eyebrows and small pauses between the phrases",
    "sad": "speaks with lowered corners of the mouth, inner eyebrows drawn up and heavy eyelids",
    "angry": "speaks with lowered, drawn eyebrows, a hard look and tense lips",
    "surprise": "speaks with raised eyebrows, wide eyes and a mouth that opens far",
    "fear": "speaks with raised, drawn eyebrows, wide eyes and trembling lips",
    "disgust": "speaks with a wrinkled nose, a raised upper lip and narrowed eyes",
    "contempt": "speaks with one corner of the mouth raised and half closed eyes",
}
ENERGY = {
    "low": "The movements are small and slow.",
    "natural": "The movements are natural and follow the rhythm of the speech.",
    "high": "The movements are lively and large, and stress the words.",
}
HEAD = {
    "still": "The head stays almost still.",
    "natural": "The head nods and tilts lightly while speaking.",
    "lively": "The head nods, tilts and turns with every phrase.",
}
HANDS = {
    "out of sight": "",
    "at rest": "The hands rest and do not move.",
    "gestures": "The hands make small gestures that go with the words.",
    "lively gestures": "Both hands gesture widely and go with every phrase.",
}
GAZE = {
    "at the camera": "The eyes look straight into the camera and blink from time to time.",
    "wanders": "The eyes look into the camera, and aside now and then in thought.",
    "beside the camera": "The eyes look at somebody beside the camera.",
}
SHOT = {
    "head": "Close-up of the face, the camera does not move.",
    "head and shoulders": "Medium close-up of head and shoulders, the camera does not move.",
    "waist up": "Medium shot from the waist up, the camera does not move.",
    "whole person": "Full shot of the whole person, the camera does not move.",
}
LIGHT = {
    "soft": "Soft, even light from the front.",
    "daylight": "Bright natural daylight.",
    "studio": "Studio light with a soft key and a rim light.",
    "evening": "Warm evening light.",
    "dramatic": "Dramatic light from one side, deep shadows.",
    "as in the picture": "",
}
STYLE = {
    "photograph": "Realistic video, sharp, with natural colours.",
    "film": "Cinematic film look, shallow depth of field.",
    "drawn": "Drawn animation with clean lines.",
    "3D animation": "3D animated film with expressive characters.",
    "as in the picture": "",
}


@dataclass(frozen=True)
class Choices:
    """The words of a prompt; the fields from ``emotion`` on are keys of the tables."""

    who: str = "A person"
    clothes: str = ""
    place: str = ""
    emotion: str = "friendly"
    energy: str = "natural"
    head: str = "natural"
    hands: str = "out of sight"
    gaze: str = "at the camera"
    shot: str = "head and shoulders"
    light: str = "soft"
    style: str = "photograph"
    more: str = ""


TABLES: Mapping[str, Mapping[str, str]] = {
    "energy": ENERGY,
    "head": HEAD,
    "hands": HANDS,
    "gaze": GAZE,
    "shot": SHOT,
    "light": LIGHT,
    "style": STYLE,
}
"""Sentences of their own, in the order of the prompt."""


def write_prompt(chosen: Choices) -> str:
    """The prompt of choices; ValueError for one that is in no table."""
    who = chosen.who.strip().rstrip(".,") or Choices.who
    clothes, place = _phrase(chosen.clothes), _phrase(chosen.place)
    if clothes and not clothes.startswith(("in ", "wearing ")):
        clothes = f"wearing {clothes}"
    about = "".join(f", {phrase}" for phrase in (clothes, place) if phrase)
    sentences = [f"{who}{about}{about and ','} {_look_up('emotion', EMOTIONS, chosen.emotion)}."]
    sentences += [_look_up(name, table, getattr(chosen, name)) for name, table in TABLES.items()]
    return " ".join(filter(None, [*sentences, chosen.more.strip()]))


def _phrase(text: str) -> str:
    """A text in the middle of a sentence."""
    text = text.strip().rstrip(".,")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _look_up(name: str, table: Mapping[str, str], key: str) -> str:
    if key not in table:
        raise ValueError(f"Choose {name} among {', '.join(table)}: there is no {key!r:.40}.")
    return table[key]
