"""What lies next to an unfinished video, so that a later run can go on with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

VERSION = 1
JOURNAL = ".resume.json"
LOCKED_BYTE = 1 << 62  # far beyond every file's end: Windows lets nobody read a locked byte


@dataclass(frozen=True)
class Journal:
    """``X.mp4.resume.json``: how far the video X.mp4 is.

    Attributes:
        fingerprint: of everything that decides the video; only a run with the same one may go on.
        frames, fragments, size: what of the file is complete: video frames, mp4 fragments, bytes.
        about: for people who read it; nothing depends on it.
    """

    fingerprint: str
    frames: int = 0
    fragments: int = 0
    size: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def write(self, video: Path) -> None:
        """Replace the journal of a video, in one step."""
        target = journal_path(video)
        draft = target.with_name(target.name + ".new")
        try:
            draft.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1), encoding="utf-8")
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def read(cls, video: Path) -> Journal | None:
        """The journal of a video; None where there is none that this version can read."""
        try:
            values = json.loads(journal_path(video).read_text(encoding="utf-8"))
            if values.pop("version") != VERSION:
                return None
            journal = cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        counts = (journal.frames, journal.fragments, journal.size)
        return journal if all(isinstance(count, int) and count > 0 for count in counts) else None


def journal_path(video: Path) -> Path:
    """Where a video's journal is."""
    return video.with_name(video.name + JOURNAL)


def growing_path(video: Path) -> Path:
    """Where the growing form of an interrupted video is kept beside the ordinary file that players like better."""
    return video.with_name(video.name + ".resume")


def state_path(video: Path) -> Path:
    """Where the generator's state for a video is kept."""
    return video.with_name(video.name + ".resume.safetensors")


def unfinished(video: Path, fingerprint: str) -> Journal | None:
    """The journal of a video that a run with this fingerprint can go on with; None where it cannot.

    Somebody else must not be writing it, and its growing form must hold what the journal says.
    """
    journal = Journal.read(video)
    if journal is None or journal.fingerprint != fingerprint:
        return None
    growing = growing_path(video) if growing_path(video).is_file() else video
    try:
        with growing.open("r+b") as file:
            return journal if lock(file) and _whole_boxes(file, journal.size) else None
    except OSError:
        return None


def find_unfinished(folder: Path, name: str, fingerprint: str) -> Path | None:
    """The newest video ``name_<number>_.mp4`` of a folder that a run with this fingerprint can go on with."""
    pattern = re.compile(re.escape(name) + r"_(\d+)_\.mp4")
    journals = (path.name.removesuffix(JOURNAL) for path in folder.glob(f"*{JOURNAL}"))
    found = [match for journal in journals if (match := pattern.fullmatch(journal))]
    for match in sorted(found, key=lambda match: int(match[1]), reverse=True):
        if unfinished(folder / match[0], fingerprint):
            return folder / match[0]
    return None


def take_back(video: Path) -> None:
    """Put the growing form of an interrupted video into its place again."""
    if growing_path(video).is_file():
        os.replace(growing_path(video), video)


def forget(video: Path) -> None:
    """Remove everything that is only needed to go on with a video."""
    for path in (journal_path(video), growing_path(video), state_path(video)):
        path.unlink(missing_ok=True)


def lock(file: BinaryIO) -> bool:
    """Mark an open file as being written until it is closed; False when another writer has done so."""
    try:
        if os.name == "nt":
            import msvcrt

            place = file.tell()
            file.seek(LOCKED_BYTE)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(place)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks (some network shares) is no reason not to write.
        return not isinstance(error, PermissionError)
    return True


def _whole_boxes(file: BinaryIO, size: int) -> bool:
    """Whether a file begins with whole mp4 boxes, of a growing file, that end at ``size``."""
    offset = fragments = 0
    while offset < size:
        file.seek(offset)
        head = file.read(8)
        if len(head) < 8 or (length := int.from_bytes(head[:4], "big")) < 8:
            return False
        fragments += head[4:] == b"moof"
        offset += length
    return offset == size and fragments > 0 and file.seek(0, os.SEEK_END) >= size
