"""A checksum of files of many gigabytes, computed by several threads while they are written or read."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

PIECE = 1 << 24
"""Bytes that one thread hashes at once."""
THREADS = min(8, os.cpu_count() or 1)
"""One hashes 1.2 GB/s; disks may give several times that, and writing leaves it less."""
BEHIND = THREADS + 2
"""Where every update is one piece, the data of so many updates before is hashed, and its memory may be used again."""


class Checksum:
    """SHA-256 of the SHA-256 of every 16 MB; use it as a context manager.

    ``update`` returns before its data is hashed, and nobody may change that until ``digest``.
    """

    size = 32  # bytes

    def __enter__(self) -> Checksum:
        self._threads = ThreadPoolExecutor(THREADS)
        self._pieces: deque[Future[bytes]] = deque()
        self._parts: list[memoryview] = []
        self._room = PIECE
        self._whole = hashlib.sha256()
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def update(self, data: bytes | memoryview) -> None:
        """Go on with these bytes."""
        rest = memoryview(data)
        while rest:
            part, rest = rest[: self._room], rest[self._room :]
            self._parts.append(part)
            self._room -= len(part)
            if not self._room:
                self._begin_piece()

    def digest(self) -> bytes:
        """The checksum of everything, which ends with this."""
        self._begin_piece()
        while self._pieces:
            self._finish_piece()
        return self._whole.digest()

    def _begin_piece(self) -> None:
        if len(self._pieces) > THREADS:  # data waits in memory
            self._finish_piece()
        self._pieces.append(self._threads.submit(_sha256, self._parts))
        self._parts, self._room = [], PIECE

    def _finish_piece(self) -> None:
        self._whole.update(self._pieces.popleft().result())


def _sha256(parts: list[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
