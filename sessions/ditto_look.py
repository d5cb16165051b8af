"""How Ditto's person behaves, in words that people use, as the engine's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.ditto.blinks import UNKNOWN_LENGTH, Blinks, blink_rows
from ..engines.ditto.conditions import emotion_row, emotion_rows
from ..engines.ditto.config import EMOTIONS, WindowConfig
from ..engines.ditto.driving import PICTURE_PARTS, DrivingConfig, constant_controls
from ..engines.ditto.pipeline import Performance
from ..engines.ditto.shifts import blink_table, eyelids, gaze
from ..loaders.ditto.settings import DittoSettings

NATURAL, NEUTRAL = "natural", "neutral"
EMOTION_CHOICES = (NATURAL, NEUTRAL, *(name for name in EMOTIONS if name != NEUTRAL))
"""The first one varies as the published settings do, and is neutral without them."""
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

    def __post_init__(self) -> None:
        for name, value, known in (
            ("emotion", self.emotion, EMOTION_CHOICES),
            ("blinks", self.blinks, BLINK_CHOICES),
        ):
            if value not in known:
                raise ValueError(f"Choose {name} from {', '.join(known)}: {value!r} is not known.")


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
        neutral_origin=look.emotion not in (NATURAL, NEUTRAL),
    )


def _gains(look: Look, still: bool) -> Mapping[str, float] | None:
    if look.head == 1 or not still:
        return None
    return {name: 1.0 if name == "expression" else look.head for name in PICTURE_PARTS}


def _emotions(look: Look, settings: DittoSettings | None) -> Tensor:
    if look.emotion == NATURAL:
        return emotion_rows() if settings is None else settings.emotions
    chosen, neutral = (emotion_row([EMOTIONS.index(name)]) for name in (look.emotion, NEUTRAL))
    return torch.lerp(neutral, chosen, look.share)[None]


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
