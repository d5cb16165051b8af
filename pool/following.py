"""A video's file read while it grows, whoever writes it: avatars may come and go meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from avatar.media.journal import growing_path

from .store import Record

PIECE = 256 << 10
POLL_SECONDS = 0.05


class Cut(Exception):
    """The video ends early, or cannot be read to its end."""


async def follow(find: Callable[[], Record | None], folder: Path) -> AsyncIterator[bytes]:
    """The bytes of a job's growing video, from its first one to its end, in pieces.

    Only whole fragments that an avatar has told of are read, so what a lost one has left half done is never seen.

    Args:
        find: the job as it is now; None when it is gone.

    Raises:
        Cut: the job has not ended as it should, or its video was begun anew.
    """
    while (record := find()) is not None and not record.size and not record.over:
        await asyncio.sleep(POLL_SECONDS)
    if record is None or not record.size or record.state in ("failed", "stopped"):
        raise Cut
    name, video = record.file, folder / record.file
    growing = growing_path(video)
    # Without a buffer, which would keep bytes behind the last fragment that somebody else writes anew.
    with (growing if growing.is_file() else video).open("rb", buffering=0) as file:
        sent = 0
        while True:
            record = find()
            if record is None or record.file != name:
                raise Cut
            limit = os.fstat(file.fileno()).st_size if record.state == "finished" else record.size
            if sent < limit:
                piece = await asyncio.to_thread(file.read, min(PIECE, limit - sent))
                if piece:
                    sent += len(piece)
                    yield piece
                    continue
            if record.state == "finished":
                break
            if record.over:
                raise Cut
            await asyncio.sleep(POLL_SECONDS)
        if sent != record.size and not os.path.samestat(os.fstat(file.fileno()), video.stat()):
            raise Cut
