"""A stream generated into a file, from where the file ends, with snapshots to go on from."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch

from .frames import AvatarStream, PassState
from .journal import state_path
from .unfinished import clear_orphans, find_unfinished
from .writer import VideoWriter

SHARE = 0.03
"""Part of the time that snapshots may take."""
SHORTEST = 10.0
"""Seconds between two snapshots, however fast they are written."""
BYTES_PER_SECOND = 5e8
"""Bytes per second that a disk is expected to write until it was measured."""
WORTH = 5
"""When a run is abandoned, a snapshot is written if generating took so many times as long as writing it takes."""
FREE_BYTES = 10 << 30
"""Bytes of the disk that are left free for the video and others."""


class Snapshots:
    """Writes the state of a pass to a file now and then; a full disk costs the snapshot, not the run.

    Args:
        video: the file that is written; its snapshot lies next to it.
        limit: bytes that the snapshots of all videos of this folder may take; those of others go first.
        say: is told why none could be written; then there are none any more.
        clock: seconds.
    """

    def __init__(
        self,
        video: Path,
        limit: int,
        say: Callable[[str], None] = logging.warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.limit, self._say, self._clock = state_path(video), limit, say, clock
        self._last = clock()
        self._took: float | None = None
        self.problem: str | None = None if limit else "No snapshots are wanted."

    def due(self, state: PassState) -> bool:
        """Whether it is time for the next one."""
        since = self._clock() - self._last
        return self.problem is None and since >= SHORTEST and since >= self._takes(state) / SHARE

    def worth(self, state: PassState) -> bool:
        """Whether to take one of a run that ends early."""
        return self.problem is None and self._clock() - self._last >= self._takes(state) * WORTH

    def take(self, state: PassState) -> None:
        """Write one, if it fits; ``problem`` says why it could not be written."""
        start, size = self._clock(), state.size()
        try:
            self._make_room(size)
            state.save(self.path)
        except OSError as error:
            self.problem = f"No snapshot is taken: {error.strerror or error}"
            self._say(self.problem)
        self._last = self._clock()
        self._took = self._last - start

    def _takes(self, state: PassState) -> float:
        return state.size() / BYTES_PER_SECOND if self._took is None else self._took

    def _make_room(self, size: int) -> None:
        """Remove the oldest snapshots of other videos until another one fits; OSError when it does not."""
        if size > self.limit:
            raise OSError(f"it needs {size / 1e9:.1f} GB, and {self.limit / 1e9:.0f} GB are given for them.")
        others = []
        for path in self.path.parent.glob("*.resume.safetensors"):
            with suppress(FileNotFoundError):  # its video was finished in this moment, by another host
                if path != self.path:
                    others.append((path.stat().st_mtime, path.stat().st_size, path))
        others.sort()
        while others and sum(taken for _, taken, _ in others) + size > self.limit:
            others.pop(0)[2].unlink(missing_ok=True)
        free = shutil.disk_usage(self.path.parent).free
        if free < size + FREE_BYTES:
            raise OSError(f"it needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of disk space are free.")


def begin(
    folder: Path,
    name: str,
    number: int,
    fingerprint: str | None,
    say: Callable[[str], None] = logging.warning,
    **options: Any,
) -> VideoWriter:
    """A writer for the video ``name_<number>_.mp4`` of a folder that goes on with an unfinished one, or begins the
    first from ``number`` on that nobody else has begun.

    ``say`` is told of an unfinished one that cannot be gone on with; ``options`` are the writer's.
    """
    clear_orphans(folder)
    if fingerprint is not None and (video := find_unfinished(folder, name, fingerprint, say)):
        try:
            return VideoWriter(video, fingerprint=fingerprint, **options)
        except FileExistsError:
            pass  # another host was faster
    for taken in count(number):
        try:
            return VideoWriter(folder / f"{name}_{taken:05}_.mp4", fingerprint=fingerprint, **options)
        except FileExistsError:
            continue


def open_state(
    stream: AvatarStream, writer: VideoWriter, say: Callable[[str], None] = logging.warning
) -> PassState:
    """The state from which a pass goes on with a writer's file: that of the newest snapshot, or the beginning, from
    where the pass repeats the frames in the file. A snapshot that is of no use is removed, and ``say`` is told."""
    path = state_path(writer.path)
    if writer.frames_written and path.is_file():
        try:
            state = stream.resumable.state(path, writer.fingerprint)
            if state.first_frame <= writer.frames_written:
                return state
            problem = f"The snapshot {path.name} is ahead of its video."
        except ValueError as error:
            problem = str(error)
        path.unlink(missing_ok=True)
        say(f"{problem} What the video holds is generated again.")
    return stream.resumable.state(None, writer.fingerprint)


def record(
    stream: AvatarStream,
    writer: VideoWriter,
    snapshots: Snapshots | None = None,
    say: Callable[[str], None] = logging.warning,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Generate a stream into a writer's file, behind the frames that it holds already.

    Yields (frames reached, block) for each block, also for those that are generated again to get where the file
    ends and are not written. With ``snapshots`` the pass is saved as often as they allow, and when it is abandoned.
    ``say`` is told when a snapshot cannot be used.
    """
    state = None if snapshots is None else open_state(stream, writer, say)
    reached = 0 if state is None else state.first_frame

    def in_step() -> bool:
        return state is not None and state.frames == writer.frames_written

    blocks = stream.blocks(state)
    try:
        for block in blocks:
            reached += len(block)
            if reached > writer.frames_written:
                writer.write(block[writer.frames_written - reached :])
            yield reached, block
            if state is not None and reached < stream.frames and snapshots.due(state):
                if in_step():
                    snapshots.take(state)
                else:
                    state.settle()
    except BaseException:
        if in_step() and snapshots.worth(state):
            snapshots.take(state)
        raise
    finally:
        blocks.close()
        if state is not None:
            state.release()
