"""File jobs on a disk: what was asked for, what came of it, and the video. They outlast every process."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from avatar.jobs.job import Job

RECORD = "job.json"
ENDED = ("finished", "failed", "stopped")


@dataclass(frozen=True)
class Record:
    """A file job.

    Attributes:
        job: its ``image`` and ``audio`` are names of files in the job's folder.
        state: "waiting", "running", "finished", "failed" or "stopped".
        created, ended: seconds since 1970.
        file: name of the video in the job's folder, once there is one.
        frames, total_frames, fps: how far it is.
        size: bytes of the growing video that are whole fragments.
        error: why it has no video.
        losses: how many avatars were lost in its making, one after another, without a new frame.
    """

    id: str
    job: Job
    state: str = "waiting"
    created: float = 0.0
    ended: float | None = None
    file: str | None = None
    frames: int = 0
    total_frames: int | None = None
    fps: float | None = None
    size: int = 0
    error: str | None = None
    losses: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ENDED


class Store:
    """The jobs in a folder, one folder each. Ids are ours: nothing that a client names becomes a path."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, job: Job, picture: tuple[str, bytes], sound: tuple[str, bytes]) -> Record:
        """A new job with its files, each a format and its bytes."""
        id_ = secrets.token_urlsafe(16)
        folder = self.folder(id_)
        folder.mkdir(mode=0o700)
        names = {}
        for name, (kind, data) in {"image": picture, "audio": sound}.items():
            names[name] = f"{name}.{kind}"
            (folder / names[name]).write_bytes(data)
        record = Record(id_, replace(job, **names), created=time.time())
        self.write(record)
        return record

    def folder(self, id_: str) -> Path:
        """The folder of a job."""
        return self.root / id_

    def write(self, record: Record) -> None:
        """Replace what the disk knows about a job, in one step."""
        target = self.folder(record.id) / RECORD
        draft = target.with_name(f"{RECORD}.new")
        draft.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        os.replace(draft, target)

    def read(self, id_: str) -> Record:
        """A job of ours; OSError or ValueError where its record is not there or damaged."""
        return _record(json.loads((self.folder(id_) / RECORD).read_text(encoding="utf-8")))

    def all(self) -> list[Record]:
        """All jobs, the oldest first; a damaged one is named in the log and left alone."""
        found = []
        for path in self.root.glob(f"*/{RECORD}"):
            try:
                found.append(self.read(path.parent.name))
            except (OSError, ValueError, TypeError, KeyError) as error:
                logging.warning("LiveAvatar: the job %s is damaged and left alone: %s", path, error)
        return sorted(found, key=lambda record: record.created)

    def remove(self, id_: str) -> None:
        """Remove a job with its video."""
        shutil.rmtree(self.folder(id_), ignore_errors=True)


def _record(values: Mapping[str, Any]) -> Record:
    return Record(**{**values, "job": Job(**values["job"])})
