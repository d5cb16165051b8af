"""The files next to an unfinished video, from which a later run can go on with it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = 2
JOURNAL, GROWING, STATE = ".resume.json", ".resume", ".resume.safetensors"
FINISHING, DRAFT = ".finishing.mp4", ".new"
LONGEST = 1 << 20
"""Bytes of a journal that are read; one takes less than a thousandth of it."""


class Damaged(ValueError):
    """A video, or a file next to it, is not what was written."""


@dataclass(frozen=True)
class Journal:
    """The progress of a video X.mp4, kept as ``X.mp4.resume.json``.

    Attributes:
        fingerprint: a hash of everything that decides the video; only a run with the same one may go on.
        frames, fragments, size: the complete part of the file in video frames, mp4 fragments and bytes.
        digest: SHA-256 of these bytes.
        about: for people who read it; nothing depends on it.
    """

    fingerprint: str
    frames: int = 0
    fragments: int = 0
    size: int = 0
    digest: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def write(self, video: Path) -> None:
        """Replace the journal of a video, in one step."""
        values = asdict(self)
        target = journal_path(video)
        draft = draft_of(target)
        try:
            text = json.dumps({"version": VERSION, **values, "checksum": _checksum(values)}, indent=1)
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def read(cls, video: Path) -> Journal | None:
        """The journal of a video; None where there is none that can be opened.

        Raises:
            Damaged: it is not what was written, or was written by another version; in one sentence.
        """
        try:
            with journal_path(video).open("rb") as file:
                text = file.read(LONGEST + 1)
        except OSError:
            return None
        try:
            values = json.loads(text) if len(text) <= LONGEST else {}
            version, checksum = values.pop("version"), values.pop("checksum", None)
            if checksum == _checksum(values) and version == VERSION:
                return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Damaged(f"{journal_path(video).name} is damaged.") from error
        raise Damaged(f"{journal_path(video).name} is damaged, or of another version of this pack.")


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def journal_path(video: Path) -> Path:
    """The path of a video's journal."""
    return video.with_name(video.name + JOURNAL)


def growing_path(video: Path) -> Path:
    """The path of an interrupted video's growing form, beside the ordinary file that players like better."""
    return video.with_name(video.name + GROWING)


def state_path(video: Path) -> Path:
    """The path of the generator's state for a video."""
    return video.with_name(video.name + STATE)


def finishing_path(video: Path) -> Path:
    """The path where the ordinary form of a video is written."""
    return video.with_name(video.name + FINISHING)


def draft_of(path: Path) -> Path:
    """The path where a file is written before it takes its place in one step."""
    return path.with_name(path.name + DRAFT)


def forget(video: Path) -> None:
    """Remove everything that is only needed to go on with a video; the journal, which tells of the rest, last."""
    for path in (state_path(video), growing_path(video), journal_path(video)):
        path.unlink(missing_ok=True)
