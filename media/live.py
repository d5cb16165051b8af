"""Videos that are being written, for those who watch them meanwhile."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ENDED_STREAMS_KEPT = 16
JOIN_SECONDS = 10.0
"""A viewer who comes late to a stream gets about this much of its end."""
RECENT_BLOCKS = 5
"""The recent speed is that of so many blocks: the first ones of a run may be much slower than the rest."""
LINGER_SECONDS = 15.0
"""A viewer who has read a stream piece by piece is expected back within this time."""


class LiveStream:
    """One growing file of mp4 fragments. Written by one thread, read by any number of others.

    ``readable(path)`` opens it to readers, ``advance`` tells of each whole fragment, ``end`` of the result:
    "finished", "stopped" or "failed". ``total_frames`` is None where nobody knows it. ``place`` lets the page ask the
    host for the finished file. ``owner`` (workflow, node, prompt) is told to the page as it is. ``plan`` says in a line
    how the video is made. ``direct``: pages may watch each frame as it is due, in place of the file.

    The file may be replaced after ``readable`` has ended: readers who hold the stream by then, and those who come
    back for it piece by piece, read the old one to its end.
    """

    def __init__(
        self,
        *,
        fps: float,
        total_frames: int | None,
        place: Mapping[str, str],
        owner: Mapping[str, str | None],
        plan: str | None = None,
        direct: bool = False,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.fps, self.total_frames = float(fps), total_frames
        self.place, self.owner, self.plan = dict(place), dict(owner), plan
        self.direct = direct
        self.state = "running"
        self.mime_type: str | None = None
        self.size = 0  # bytes of whole fragments
        self.header_size = 0
        self.frames = 0
        self._lock = threading.Lock()
        self._file = None
        self._writing = True
        self._readers = 0
        self._visited: float | None = None
        self._lingers = False
        self._newest = 0  # offset of the last fragment
        self._joins: deque[tuple[int, int]] = deque()  # (first frame, offset) of where players can begin
        self._started = time.monotonic()
        self._first_block: tuple[float, int] | None = None
        self._last_blocks: deque[tuple[float, int]] = deque(maxlen=RECENT_BLOCKS + 1)

    @contextmanager
    def readable(self, path: str | os.PathLike) -> Iterator[None]:
        """Let readers in until the block of code ends; the file must exist."""
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by the last reader)
        try:
            yield
        finally:
            with self._lock:
                self._writing = False
                # Windows does not let an open file be replaced: readers are cut off there.
                if os.name == "nt":
                    self._close()
                else:
                    self._linger()

    def go_on(self, frames: int, size: int) -> None:
        """The file held this already when the run began; call it before the first ``advance``."""
        with self._lock:
            self.frames, self.size = frames, size

    def advance(self, frames: int, mime_type: str, *, joinable: bool) -> None:
        """The file now holds ``frames`` frames, in whole fragments of this type; a player can begin with the newest
        one if it is ``joinable``, as the first one is."""
        now = time.monotonic()
        with self._lock:
            self._newest = self.size
            if joinable:
                self._joins.append((self.frames, self.size))
            while len(self._joins) > 1 and (frames - self._joins[1][0]) / self.fps >= JOIN_SECONDS:
                self._joins.popleft()
            if self._first_block is None:
                self._first_block = now, frames
                self.header_size = _header_size(self._file)
                self.mime_type = mime_type
            self._last_blocks.append((now, frames))
            self.frames, self.size = frames, os.fstat(self._file.fileno()).st_size

    def end(self, state: str) -> None:
        """No more comes: "finished", "stopped" or "failed"."""
        self.state = state

    @property
    def complete(self) -> bool:
        """Whether no byte will be added."""
        return not self._writing or self.state != "running"

    @contextmanager
    def reader(self, *, comes_back: bool = False) -> Iterator[LiveStream]:
        """Hold the stream open for reading. LookupError when it has ended and its file is closed.

        ``comes_back`` tells that the reader takes what there is and asks for more later.
        """
        with self._lock:
            if self.complete and self._file is None:
                raise LookupError("This stream has ended; its finished file is there instead.")
            self._readers += 1
            if comes_back:
                self._visited = time.monotonic()
        try:
            yield self
        finally:
            with self._lock:
                self._readers -= 1
                self._close_if_unused()

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``, whole fragments only; empty where nothing is (yet)."""
        with self._lock:
            count = min(count, self.size - offset)
            if self._file is None or count <= 0:
                return b""
            self._file.seek(offset)
            return self._file.read(count)

    def newest(self) -> tuple[int, int]:
        """Offset and size of the last fragment."""
        with self._lock:
            return self._newest, self.size - self._newest

    def status(self) -> dict[str, object]:
        """The figures that the page shows, as JSON types. ``speed`` is in frames per second since the first block,
        ``recent_speed`` that of the last blocks; ``join`` is the offset at which a late viewer goes on after the first
        ``header_size`` bytes."""
        with self._lock:
            first_frame = speed = recent = None
            if self._first_block is not None:
                first_frame = self._first_block[0] - self._started
                speed = self._speed_since(self._first_block)
                recent = self._speed_since(self._last_blocks[0])
            return {
                "id": self.id,
                **self.owner,
                "state": self.state,
                "readable": not self.complete or self._file is not None,
                "mime_type": self.mime_type,
                "size": self.size,
                "header_size": self.header_size,
                "join": self._joins[0][1] if self._joins else 0,
                "frames": self.frames,
                "total_frames": self.total_frames,
                "fps": self.fps,
                "speed": speed,
                "recent_speed": recent,
                "first_frame_seconds": first_frame,
                "file": self.place,
                "direct": self.direct,
            }

    def _speed_since(self, block: tuple[float, int]) -> float | None:
        """Frames per second since a block (time, frames); None before the next one."""
        seconds = self._last_blocks[-1][0] - block[0]
        return (self.frames - block[1]) / seconds if seconds > 0 else None

    def _linger(self) -> None:
        """Close the file as soon as nobody reads it or is expected back."""
        self._lingers = self._visited is not None and time.monotonic() - self._visited < LINGER_SECONDS
        if self._lingers:
            timer = threading.Timer(LINGER_SECONDS, self._look_again)
            timer.daemon = True
            timer.start()
        self._close_if_unused()

    def _look_again(self) -> None:
        with self._lock:
            self._linger()

    def _close_if_unused(self) -> None:
        if self.complete and self._readers == 0 and not self._lingers:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class LiveStreams:
    """The streams of this process: all that run, and the figures of the last ones that have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}

    def add(self, stream: LiveStream) -> None:
        """Make a stream known; the oldest of too many ended ones are forgotten."""
        with self._lock:
            self._streams[stream.id] = stream
            ended = [known.id for known in self._streams.values() if known.state != "running"]
            for id_ in ended[: max(0, len(ended) - ENDED_STREAMS_KEPT)]:
                del self._streams[id_]

    def get(self, id_: str) -> LiveStream | None:
        """The stream of this id."""
        return self._streams.get(id_)

    def of_prompt(self, prompt: str) -> LiveStream | None:
        """The last stream of a run, by the host's id of it."""
        with self._lock:
            found = [stream for stream in self._streams.values() if stream.owner.get("prompt") == prompt]
        return found[-1] if found else None

    def running(self) -> list[LiveStream]:
        """The streams that grow."""
        with self._lock:
            return [stream for stream in self._streams.values() if stream.state == "running"]

    def latest(self, workflow: str) -> list[LiveStream]:
        """The last stream of each node of a workflow."""
        with self._lock:
            found = [stream for stream in self._streams.values() if stream.owner.get("workflow") == workflow]
        return list({stream.owner["node"]: stream for stream in found}.values())


def _header_size(file) -> int:
    """Bytes before the first fragment (its 'moof' box) of an mp4."""
    offset = 0
    while True:
        file.seek(offset)
        box = file.read(8)
        if len(box) < 8:
            raise ValueError("The file has no mp4 fragment.")
        if box[4:] == b"moof":
            return offset
        offset += int.from_bytes(box[:4], "big")


streams = LiveStreams()
"""The streams that the server's pages can watch."""
