"""One video to be made, as a row of a batch file or a request describes it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

MAX_SEED = 0xFFFFFFFFFFFFFFFF
RANDOM = "random"
SHOWN_LETTERS = 60
NAME_BYTES = 150
"""Bytes of an output's name; file systems allow 255, and folders, a number and an ending are added."""
NOT_IN_NAMES = '<>:"|?*\\%'
"""Windows allows these in no name (a percent sign is a placeholder of the host's)."""


class Limits(NamedTuple):
    """The least and the greatest value of a number, and its type."""

    least: float
    most: float
    type: type = float


LIMITS = {
    "seed": Limits(0, MAX_SEED, int),
    "steps": Limits(1, 50, int),
    "guidance": Limits(1, 5),
    "fps": Limits(15, 30),
    "seconds": Limits(0.04, 86_400),
}
LONGEST = {"prompt": 20_000, "text": 200_000, "voice": 200, "image": 4_096, "audio": 4_096, "output": 400}
"""Letters of a text."""


@dataclass(frozen=True)
class Job:
    """One video. None leaves the workflow's own value.

    Attributes:
        image: the portrait.
        audio: the speech; None where ``text`` is to be spoken.
        text: what a voice says.
        voice: the name of that voice.
        output: name of the video, without ending; folders with ``/``.
        seed: None for a random one.
        steps: denoising steps.
        guidance: how closely the model keeps to prompt and speech; 1 is none.
        fps: frames per second.
        seconds: where the video ends, if the speech does not end before.
    """

    image: str
    audio: str | None = None
    text: str | None = None
    voice: str | None = None
    prompt: str | None = None
    output: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    fps: float | None = None
    seconds: float | None = None


FIELDS = tuple(field.name for field in fields(Job))


def read_job(values: Mapping[str, Any], names: Mapping[str, str], *, written: bool = False) -> Job:
    """A job from named values; None and what is missing are not given.

    Args:
        names: the field of every name that is allowed.
        written: numbers may be texts, as in CSV.

    Raises:
        ValueError: a name or a value that makes no sense, in one sentence that names it.
    """
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in values.items():
        field = names.get(name)
        if field is None:
            raise ValueError(f"Leave {shown(name)} out: there is no such input ({', '.join(names)}).")
        if value is None:
            continue
        if field in said:
            raise ValueError(f"Give one of {said[field]} and {name}: they mean the same.")
        said[field] = name
        found[field] = _number(field, name, value, written) if field in LIMITS else _text(field, name, value)
    called = {field: name for name, field in reversed([*names.items()])} | said
    if "image" not in found:
        raise ValueError(f"Give {called['image']}: there is no portrait.")
    if ("audio" in found) == ("text" in found):
        given = "both are" if "audio" in found else "neither is"
        raise ValueError(f"Give either {called['audio']} or {called['text']}: {given} there.")
    if "voice" in found and "text" not in found:
        raise ValueError(f"Leave {called['voice']} out: there is no {called['text']} for it to say.")
    if "output" in found:
        found["output"] = output_name(found["output"], called["output"])
    return Job(**found)


def output_name(name: str, called: str = "output") -> str:
    """A video's name without its ending; ValueError for one that leads out of its folder or that no disk allows."""
    plain = re.sub(r"\.mp4$", "", name, flags=re.IGNORECASE)
    parts = plain.split("/")
    if any(part in ("", ".", "..") or part != part.strip(" .") for part in parts):
        raise ValueError(f"Set {called} to a name such as 'folder/name.mp4': it is {shown(name)}.")
    if wrong := sorted(set(NOT_IN_NAMES) & set(plain)):
        raise ValueError(f"Take {' '.join(wrong)} out of {called}: it is {shown(name)}.")
    if len(plain.encode()) > NAME_BYTES:
        raise ValueError(f"Shorten {called} to {NAME_BYTES} bytes: it is {shown(name)}.")
    return plain


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _text(field: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"Set {name} to a text: it is {shown(value)}.")
    if len(value) > LONGEST[field]:
        raise ValueError(f"Shorten {name} to {LONGEST[field]} letters: it has {len(value)}.")
    allowed = "\n\t\r" if field in ("prompt", "text") else ""
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in allowed for letter in value):
        raise ValueError(f"Take the control characters out of {name}: it is {shown(value)}.")
    return value


def _number(field: str, name: str, value: Any, written: bool) -> int | float | None:
    limits = LIMITS[field]
    if field == "seed" and isinstance(value, str) and value.strip().lower() == RANDOM:
        return None
    if written and isinstance(value, str):
        with suppress(ValueError):  # said below
            value = limits.type(value.strip())
    right = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and limits.least <= value <= limits.most
    )
    if not right or value != limits.type(value):
        kind = "a whole number" if limits.type is int else "a number"
        more = f" or {RANDOM}" if field == "seed" else ""
        raise ValueError(
            f"Set {name} to {kind} from {limits.least} to {limits.most}{more}: it is {shown(value)}."
        )
    return limits.type(value)
