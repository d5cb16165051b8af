"""Unfinished videos of a folder: those that a run can go on with, and the leftovers of killed runs.

A video's lock is held while it is looked at, so that runs of several hosts in one folder leave each other's alone.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .file_lock import abandoned, lock
from .journal import (
    DRAFT,
    FINISHING,
    JOURNAL,
    STATE,
    Damaged,
    Journal,
    draft_of,
    finishing_path,
    forget,
    growing_path,
    journal_path,
    state_path,
)

PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Claim:
    """An unfinished video that is ours to go on with: locked, and what its journal says.

    Attributes:
        file: open for writing; close it to let go.
        digest: the running SHA-256 of the complete part.
    """

    file: BinaryIO
    journal: Journal
    digest: Any


def claim(video: Path, fingerprint: str) -> Claim | None:
    """Take a video to go on with it; None where a run with this fingerprint cannot, or somebody writes it.

    Raises:
        Damaged: the video or its journal is not what was written; in one sentence.
    """
    journal = Journal.read(video)
    if journal is None or journal.fingerprint != fingerprint:
        return None
    growing = growing_path(video) if growing_path(video).is_file() else video
    try:
        file = growing.open("r+b", buffering=0)
    except OSError:
        return None
    claimed = None
    try:
        if lock(file) and (digest := _sound(file, growing, video, journal)):
            claimed = Claim(file, journal, digest)
    finally:
        if claimed is None:
            file.close()
    return claimed


def take_back(video: Path, claimed: Claim) -> BinaryIO:
    """Put the growing form of an interrupted video into its place again; gives the file there, still locked.

    FileExistsError when another run was faster."""
    growing, file = growing_path(video), claimed.file
    if not growing.is_file():
        return file
    if os.name != "nt":
        os.replace(growing, video)
        return file
    file.close()  # Windows renames no open files
    os.replace(growing, video)
    file = video.open("r+b", buffering=0)
    if lock(file) and os.fstat(file.fileno()).st_size >= claimed.journal.size:
        return file
    file.close()
    raise FileExistsError(errno.EEXIST, "another run is writing it")


def _sound(file: BinaryIO, growing: Path, video: Path, journal: Journal) -> Any:
    """The running hash of a locked file that agrees with its journal; None where another writer was faster."""
    try:
        # Before the lock was ours another run may have gone on with it, or finished it.
        if not os.path.samestat(growing.stat(), os.fstat(file.fileno())) or Journal.read(video) != journal:
            return None
    except OSError:
        return None
    digest, left = hashlib.sha256(), journal.size
    while left and (piece := file.read(min(PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    if left or digest.hexdigest() != journal.digest:
        raise Damaged(f"{growing.name} was changed after it had been written.")
    return digest


def find_unfinished(
    folder: Path, name: str, fingerprint: str, say: Callable[[str], None] = logging.warning
) -> Path | None:
    """The newest video ``name_<number>_.mp4`` of a folder that a run with this fingerprint can go on with.

    One that was changed is not gone on with, now or later, and ``say`` is told.
    """
    pattern = re.compile(re.escape(name) + r"_(\d+)_\.mp4")
    journals = (path.name.removesuffix(JOURNAL) for path in folder.glob(f"*{JOURNAL}"))
    found = [match for journal in journals if (match := pattern.fullmatch(journal))]
    for match in sorted(found, key=lambda match: int(match[1]), reverse=True):
        video = folder / match[0]
        try:
            if claimed := claim(video, fingerprint):
                claimed.file.close()
                return video
        except Damaged as error:
            say(f"{error} {video.name} cannot be gone on with and stays as it is; a new video is begun.")
            _set_apart(video)
    return None


def _set_apart(video: Path) -> None:
    """Leave a video as it is for good, if nobody writes it."""
    growing = growing_path(video)
    with abandoned(growing if growing.is_file() else video) as alone:
        pass  # Windows removes no open files
    with suppress(OSError):  # of another user
        if alone and growing.is_file() and not video.is_file():
            os.replace(growing, video)
        if alone:
            forget(video)


def clear_orphans(folder: Path) -> None:
    """Remove what killed runs have left in a folder and nobody can use: drafts, videos without a frame, and snapshots
    of finished videos."""
    endings = [JOURNAL, STATE, FINISHING, JOURNAL + DRAFT, STATE + DRAFT]
    names = [path.name for path in folder.iterdir()]
    videos = {name.removesuffix(end) for name in names for end in endings if name.endswith(".mp4" + end)}
    for video in (folder / name for name in videos):
        growing = growing_path(video)
        with (
            abandoned(growing if growing.is_file() else video) as alone,
            suppress(OSError),
        ):  # of another user
            if not alone:
                continue
            for draft in (draft_of(journal_path(video)), draft_of(state_path(video)), finishing_path(video)):
                draft.unlink(missing_ok=True)
            if growing.is_file():
                continue
            if journal_path(video).is_file() and video.is_file() and not video.stat().st_size:
                video.unlink()  # which Windows refuses while it is looked at; the same run goes on with it
            if not journal_path(video).is_file() or _finished(video):
                forget(video)


def _finished(video: Path) -> bool:
    """Whether a file is gone, or an ordinary mp4: whole boxes, none of them a fragment."""
    try:
        with video.open("rb") as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset < size:
                file.seek(offset)
                head = file.read(16)
                length = int.from_bytes(head[:4], "big")
                if length == 1:  # a box of more than 4 GB
                    length = int.from_bytes(head[8:], "big")
                if length < 8 or head[4:8] == b"moof":
                    return False
                offset += length
            return size > 0 and offset == size
    except FileNotFoundError:
        return True
