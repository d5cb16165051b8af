"""How Ditto's person behaves, in words that people use, as the engine's settings."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.ditto.blinks import UNKNOWN_LENGTH, Blinks, blink_rows
from ..engines.ditto.conditions import Moods, emotion_mix, emotion_row, emotion_rows
from ..engines.ditto.config import EMOTIONS, WindowConfig
from ..engines.ditto.driving import PICTURE_PARTS, DrivingConfig, constant_controls
from ..engines.ditto.pipeline import Performance
from ..engines.ditto.shifts import blink_table, eyelids, gaze
from ..loaders.ditto.settings import DittoSettings

NATURAL, NEUTRAL = "natural", "neutral"
EMOTION_CHOICES = (NATURAL, NEUTRAL, *(name for name in EMOTIONS if name != NEUTRAL))
"""The first one varies as the published settings do, and is neutral without them."""
PART = re.compile(r"([a-z]+|[0-7])(?:\s*[\s:=]\s*(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6}))?")
"""An emotion of a mix, by name or number, and its weight."""
RANDOM, AS_MADE, NEVER = BLINK_CHOICES = ("random", "with the speech", "never")
LIVE_OVERLAP = 75
"""The least look-ahead that the model makes: blocks of five frames, half a second after they were said."""
STEPS, LIVE_STEPS = 50, 10
"""As in the published settings."""


@dataclass(frozen=True)
class Look:
    """How the person behaves.

    Attributes:
        emotion: one of `EMOTION_CHOICES`.
        mix: weights of all `EMOTIONS`, in place of ``emotion``; see `read_mix`.
        share: how much of it there is, 0 to 1; the rest is neutral.
        mouth: strength of the lips' movement; 1 as it was made.
        head: strength of the head's movement.
        pitch, yaw, roll: degrees that are added to the head's pose: downwards, to the picture's left, to one shoulder.
        gaze_right, gaze_up: degrees by which the eyes look aside.
        eyes: how far the lids open (above 0) or close; -20 shuts them.
        blinks: one of `BLINK_CHOICES`.
        whole_face: brows, cheeks and jaw move as well.
    """

    emotion: str = NATURAL
    share: float = 1.0
    mouth: float = 1.0
    head: float = 1.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    gaze_right: float = 0.0
    gaze_up: float = 0.0
    eyes: float = 0.0
    blinks: str = RANDOM
    whole_face: bool = False
    mix: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("emotion", self.emotion, EMOTION_CHOICES),
            ("blinks", self.blinks, BLINK_CHOICES),
        ):
            if value not in known:
                raise ValueError(f"Choose {name} from {', '.join(known)}: {value!r} is not known.")


def read_mix(text: str) -> tuple[float, ...]:
    """The weights of all `EMOTIONS` in a text such as "happy 0.7, surprise 0.3"; empty for an empty one.

    Emotions may be numbers too; without weights all have the same. ValueError for anything else.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        found = PART.fullmatch(part)
        name = "" if found is None else found[1]
        name = EMOTIONS[int(name)] if name.isdigit() else name
        if name not in EMOTIONS:
            raise ValueError(
                f"Write the mix as in 'happy 0.7, surprise 0.3', of {', '.join(EMOTIONS)}: {part!r:.60} is none."
            )
        if name in weights:
            raise ValueError(f"Write every emotion of the mix once: {name} is there twice.")
        weights[name] = float(found[2] or 1)
    if weights and not any(weights.values()):
        raise ValueError("Give an emotion of the mix a weight above 0: all are 0.")
    return tuple(weights.get(name, 0.0) for name in EMOTIONS) if weights else ()


class AskedMoods:
    """The emotions that live speech asks for by name, frame by frame; ``neutral`` is what the look says."""

    NAMES = (NEUTRAL, *(name for name in EMOTIONS if name != NEUTRAL))

    def __init__(self, look: Look):
        rows = torch.stack([_strong(emotion_row([EMOTIONS.index(name)]), look.share) for name in EMOTIONS])
        self.moods = Moods(rows, self._at)
        self._since: list[int] = [0]  # frames at which another one begins,
        self._names = [NEUTRAL]  # and which

    def ask(self, frame: int, name: str) -> None:
        """From a frame on, which is later than those before, this mood holds."""
        name = name or NEUTRAL
        if name != self._names[-1]:
            self._since.append(frame)
            self._names.append(name)

    def _at(self, frame: int) -> int | None:
        name = self._names[bisect_right(self._since, frame) - 1]
        return None if name == NEUTRAL else EMOTIONS.index(name)


def performance(
    look: Look,
    settings: DittoSettings | None,
    steps: int = 0,
    *,
    still: bool,
    frames: int | None,
    seed: int = 0,
) -> Performance:
    """The engine's settings of a run.

    Args:
        settings: the published ones, whose reference character the motion is then made for, as in the reference.
        steps: of each window; 0: as the published settings do.
        still: the source is a portrait, of which the head moves too.
        frames: of a recording; None: live.
        seed: of the blinks.
    """
    live = frames is None
    windows = WindowConfig(steps=steps or STEPS)
    if live:
        windows = WindowConfig(LIVE_OVERLAP, steps or LIVE_STEPS, live=True)
    return Performance(
        windows,
        DrivingConfig(_gains(look, still), lips=look.mouth, whole_face=look.whole_face),
        _emotions(look, settings),
        character=None if settings is None else settings.character,
        bounds=None if settings is None else settings.bounds,
        blinks=_blinks(look, settings, UNKNOWN_LENGTH if live else frames, seed),
        controls=constant_controls(_offsets(look), expression=_eyes(look)),
        # An emotion that lasts would be lost in a motion that counts from its own first frame.
        neutral_origin=bool(look.mix) or look.emotion not in (NATURAL, NEUTRAL),
    )


def _gains(look: Look, still: bool) -> Mapping[str, float] | None:
    if look.head == 1 or not still:
        return None
    return {name: 1.0 if name == "expression" else look.head for name in PICTURE_PARTS}


def _emotions(look: Look, settings: DittoSettings | None) -> Tensor:
    if look.mix:
        return _strong(emotion_mix(look.mix), look.share)[None]
    if look.emotion == NATURAL:
        return emotion_rows() if settings is None else settings.emotions
    return _strong(emotion_row([EMOTIONS.index(look.emotion)]), look.share)[None]


def _strong(row: Tensor, share: float) -> Tensor:
    """A row of emotions of which there is so much; the rest is neutral."""
    return torch.lerp(emotion_row([EMOTIONS.index(NEUTRAL)]), row, share)


def _blinks(look: Look, settings: DittoSettings | None, frames: int, seed: int) -> Blinks | None:
    if look.blinks == AS_MADE:
        return None
    table = blink_table() if settings is None else settings.blink
    return Blinks(table, blink_rows(frames, len(table), -1 if look.blinks == NEVER else 0, seed))


def _offsets(look: Look) -> dict[str, float]:
    offsets = {"pitch": look.pitch, "yaw": look.yaw, "roll": look.roll}
    return {name: value for name, value in offsets.items() if value}


def _eyes(look: Look) -> Tensor | None:
    if not (look.gaze_right or look.gaze_up or look.eyes):
        return None
    right, up, opened = (
        torch.tensor([[float(value)]]) for value in (look.gaze_right, look.gaze_up, look.eyes)
    )
    return gaze(right, up) + eyelids(opened)
