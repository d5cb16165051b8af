"""Marks on files that are being written, which end with the process that has set them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCKED_BYTE = 1 << 62  # far beyond every file's end: Windows lets nobody read a locked byte


def lock(file: BinaryIO) -> bool:
    """Mark an open file as being written until it is closed; False when another writer has done so."""
    # A file system without locks (some network shares) is no reason not to write.
    return _try(file) is not False


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody writes a file; then nobody does inside ``with``. False where that cannot be known."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        yield True
    except OSError:
        yield False
    else:
        with file:
            yield _try(file) is True


def _try(file: BinaryIO) -> bool | None:
    """Whether the mark was set; None where the file system has none."""
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
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True
