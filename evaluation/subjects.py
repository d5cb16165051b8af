"""What a user knows about videos: options of the command, and `subjects.json` beside the videos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..engines.parts.face.boxes import Box
from ..media.mapped_sound import map_audio
from ..media.sound import MonoSound
from .clip import MOST_PIXELS
from .faces import Regions, regions_of
from .instruments import Subject
from .metric import SOUND_RATE, Layout

FILE = "subjects.json"
KNOWN = {"reference", "face", "mouth", "eyes", "blocks", "voice", "text", "language", "made"}
MOST_BYTES = 64 << 20


def read_subjects(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of `subjects.json` in a folder by the names of videos; empty without one.

    Each entry may have: "reference" and "voice" (files in the folder), "face", "mouth" and "eyes" (left, top, right
    and bottom in parts of the frame), "blocks" (see `Layout`), "text", "language" (two letters), and "made" (pairs of
    seconds since the start and frames that were done).

    Raises:
        ValueError: it is no such file.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"Shorten {path}: it has more than {MOST_BYTES >> 20} MB.")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Correct {path}: it is no JSON ({error}).") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"Correct {path}: it has to map the names of videos to entries.")
    for name, entry in entries.items():
        if unknown := sorted(set(entry) - KNOWN):
            raise ValueError(f"Correct {path}: the entry of {name} has unknown keys ({', '.join(unknown)}).")
    return entries


def subject_of(entry: Mapping[str, Any], folder: Path, width: int, height: int) -> Subject:
    """The subject of a video of this size from an entry; ValueError when an entry is wrong."""
    subject = Subject(text=entry.get("text"), language=entry.get("language"))
    if "reference" in entry:
        subject = replace(subject, reference=read_picture(_inside(folder, entry["reference"])))
    if "voice" in entry:
        sound = MonoSound(map_audio(_inside(folder, entry["voice"])), SOUND_RATE)
        subject = replace(subject, voice=sound)
    if "face" in entry:
        subject = replace(subject, regions=regions_in(entry, width, height))
    if "blocks" in entry:
        subject = replace(subject, layout=layout_of(entry["blocks"]))
    if "made" in entry:
        pairs = entry["made"]
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 for pair in pairs
        ):
            raise ValueError('Give "made" as pairs of seconds and frames.')
        subject = replace(subject, made=tuple((float(time), int(count)) for time, count in pairs))
    return subject


def layout_of(numbers: Sequence[int]) -> Layout:
    """Frames per block, frames per latent and the first frame that begins a block; ValueError for others."""
    if (
        not isinstance(numbers, (list, tuple))
        or len(numbers) not in (2, 3)
        or not all(type(n) is int for n in numbers)
    ):
        raise ValueError(f"Give blocks as two or three whole numbers, such as 12,4,9: it is {numbers!r:.60}.")
    return Layout(*numbers)


def read_picture(path: Path) -> Tensor:
    """A picture as uint8 ``[H, W, 3]``, upright; ValueError when it cannot be read or is huge."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"Make {path.name} smaller: it is {opened.width}x{opened.height}.")
            return torch.from_numpy(np.array(ImageOps.exif_transpose(opened).convert("RGB")))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"Choose another picture: {path} cannot be read ({error}).") from error


def regions_in(entry: Mapping[str, Any], width: int, height: int) -> Regions:
    """The regions of an entry with "face" and perhaps "mouth" and "eyes"; ValueError when they are none."""
    boxes = {
        name: _box(name, entry[name], width, height) for name in ("face", "mouth", "eyes") if name in entry
    }
    return regions_of(boxes["face"], "the user", boxes.get("mouth"), boxes.get("eyes")).fit(width, height)


def _box(name: str, parts: Any, width: int, height: int) -> Box:
    numbers = isinstance(parts, (list, tuple)) and len(parts) == 4
    if not numbers or not all(isinstance(part, (int, float)) and 0 <= part <= 1 for part in parts):
        raise ValueError(f"Give {name} as left, top, right and bottom in parts of the frame, 0 to 1.")
    left, top, right, bottom = parts
    return Box(round(left * width), round(top * height), round(right * width), round(bottom * height))


def _inside(folder: Path, name: Any) -> Path:
    """A file of the folder; a list that came with videos names no other files."""
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError(f"Put {str(name)!r:.80} into {folder}: {FILE} names files there only.")
    return path
