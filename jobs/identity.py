"""Hashes of everything that a video depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from .job import Job

PIECE = 1 << 20
REMEMBERED_FILES = 4096


def identity(job: Job, files: Iterable[Path] = (), workflow: Any = None) -> str:
    """The same for the same job with the same bytes in its files; OSError where one cannot be read."""
    told = hashlib.sha256(json.dumps([asdict(job), workflow], sort_keys=True).encode())
    for file in files:
        told.update(file_digest(file))
    return told.hexdigest()


def file_digest(file: Path) -> bytes:
    """SHA-256 of a file. Rows share portraits and batches go on: one that has not changed is read once."""
    found = file.stat()
    return _digest(file, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=REMEMBERED_FILES)
def _digest(file: Path, *_: int) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            digest.update(piece)
    return digest.digest()
