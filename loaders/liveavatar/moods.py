"""The moods of a video: prompts with names, and the times at which they hold by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...engines.liveavatar.condition import PRE_ROLL_FRAMES
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS
from ...engines.liveavatar.moods import NEUTRAL
from .conditioning import read_prompt

NAME = re.compile(r"[a-z0-9_-]{1,40}")
SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)?")
MOST = 16
"""Moods of one video."""


@dataclass(frozen=True)
class Mood:
    """A further prompt of a video.

    Attributes:
        context: its text embedding [tokens, text_dim].
        spans: first and last second of each time at which it holds by itself.
    """

    name: str
    context: Tensor
    spans: tuple[tuple[float, float], ...] = ()


def check_name(name: str) -> None:
    """ValueError for a name that cannot be asked for by a tag or in an address."""
    if not NAME.fullmatch(name):
        raise ValueError(f"Name the mood by 1 to 40 small letters, digits, - or _: it is {name!r:.60}.")
    if name == NEUTRAL:
        raise ValueError(f"Choose another name for the mood: {NEUTRAL} is the prompt of the sampler.")


def read_spans(text: str) -> tuple[tuple[float, float], ...]:
    """Times such as "2-4.5, 8-" in seconds, the last of which may be open; ValueError for anything else."""
    spans = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = SPAN.fullmatch(part)
        start, end = (float(found[1]), float(found[2] or "inf")) if found else (0.0, 0.0)
        if start >= end:
            raise ValueError(
                f"Write the times of the mood in seconds, as in 2-4.5, 8-: {part!r:.60} is none."
            )
        spans.append((start, end))
    return tuple(spans)


def with_mood(moods: Sequence[Mood], name: str, positive: Any, times: str = "") -> tuple[Mood, ...]:
    """The moods with one more; ValueError when its name is taken or cannot be used, or there are too many."""
    check_name(name)
    if name in [mood.name for mood in moods]:
        raise ValueError(f"Give each mood its own name: two are called {name}.")
    if len(moods) == MOST:
        raise ValueError(f"Leave moods out: a video can have {MOST}.")
    return (*moods, Mood(name, read_prompt(positive), read_spans(times)))


def mood_at(moods: Sequence[Mood], block: int) -> str:
    """The mood that holds by itself in the middle of a block; of several, the last one."""
    middle = (block * BLOCK_FRAMES - PRE_ROLL_FRAMES + BLOCK_FRAMES / 2) / FPS
    held = [mood.name for mood in moods if any(start <= middle < end for start, end in mood.spans)]
    return held[-1] if held else NEUTRAL


def check_moods(moods: Sequence[Mood], width: int, live: bool) -> None:
    """ValueError for a mood of another text encoder than the prompt's, which is ``width`` wide, or one that a video
    whose speech is not live never has."""
    for mood in moods:
        found = mood.context.shape[-1]
        if found != width:
            raise ValueError(
                f"Encode the mood {mood.name} with the prompt's text encoder: it is {found} wide, the prompt {width}."
            )
        if not live and not mood.spans:
            raise ValueError(
                f"Write times into the mood {mood.name}: only live speech can ask for a mood, and this speech is "
                "finished."
            )
