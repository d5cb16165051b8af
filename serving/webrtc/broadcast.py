"""One live video on its way to those who watch it."""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import av
import torch

from ...media.frames import AvatarStream
from .encode import Encoder
from .pace import TICKS, Pace

OLDEST = (1, 16)
"""The first aiortc that leaves the PyAV of a ComfyUI as it is."""
MISSING = (
    "Install aiortc 1.16 or newer, which needs Python 3.11, to see this live by WebRTC; until then pages play the file "
    "as it grows."
)
LATE_TICKS = 5
"""More steps than this are not made up for: a process that was held up goes on from now."""


@dataclass(frozen=True)
class Sent:
    """What viewers get of a step; ``seconds`` of the video are shown then."""

    sound: av.Packet
    picture: av.Packet | None
    seconds: float
    moving: bool


Viewer = Callable[[Sent | None], None]
"""Is given what is due, and None at the end; is called from a thread of its own and returns at once."""


def available() -> bool:
    """Whether an aiortc is installed that can be used."""
    try:
        version = importlib.metadata.version("aiortc")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= OLDEST


class Broadcast:
    """Frames and sound of a live stream, encoded once for all who watch. Nothing is encoded while nobody does."""

    def __init__(self, stream: AvatarStream) -> None:
        feed = stream.audio
        self._stream, self._feed = stream, feed
        self._pace = Pace(stream.fps, feed.rate, lambda: feed.goes_on)
        self._lock = threading.Lock()
        self._viewers: list[Viewer] = []
        self._fresh = False  # somebody has joined, and needs a picture to begin with
        self._pump: threading.Thread | None = None
        self.ended = False

    def stream(self) -> AvatarStream:
        """The stream, of which each block is shown before anything else is done with it."""

        def start() -> Iterator[torch.Tensor]:
            done = 0
            with closing(self._stream.blocks()) as blocks:
                for block in blocks:
                    first, done = done, done + len(block)
                    self._pace.put(block, self._sound(first, done))
                    yield block

        return self._stream.changed(start)

    def join(self, viewer: Viewer) -> Callable[[], None]:
        """Give a viewer what is due from now on; the result lets it leave."""
        with self._lock:
            if self.ended:
                viewer(None)
                return lambda: None
            self._viewers.append(viewer)
            self._fresh = True
            if self._pump is None:
                self._pace.watch(True)
                self._pump = threading.Thread(target=self._run, name="live video", daemon=True)
                self._pump.start()
        return lambda: self._leave(viewer)

    def end(self) -> None:
        """No block comes any more: what waits is shown."""
        self.ended = True

    def _leave(self, viewer: Viewer) -> None:
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    def _sound(self, first: int, last: int) -> torch.Tensor:
        start, stop = (round(frame * self._feed.rate / self._stream.fps) for frame in (first, last))
        return self._feed.read(start, stop)[0]

    def _run(self) -> None:
        """Send each step when it is due, until nobody watches or all was shown."""
        try:
            encoder = Encoder(self._stream.width, self._stream.height, self._stream.fps, self._feed.rate)
            begun, number = time.monotonic(), 0
            while self._wanted():
                late = (time.monotonic() - begun) * TICKS - number
                if late < 0:
                    time.sleep(-late / TICKS)
                elif late > LATE_TICKS:
                    number += int(late)
                self._send(encoder, number)
                number += 1
        except Exception:  # viewers have the growing file, and the video must not end for this
            logging.exception("LiveAvatar: a video cannot be shown by WebRTC.")
            with self._lock:
                viewers = self._stop()
            for viewer in viewers:
                viewer(None)

    def _wanted(self) -> bool:
        """Whether somebody watches, and there is something to come; else it ends."""
        with self._lock:
            if self._viewers and not (self.ended and self._pace.waiting < 1 / TICKS):
                return True
            viewers = self._stop()
        for viewer in viewers:
            viewer(None)
        return False

    def _stop(self) -> list[Viewer]:
        """Who is to be told that no more comes; to be called with the lock."""
        viewers, self._viewers, self._pump = self._viewers, [], None
        self._pace.watch(False)
        return viewers

    def _send(self, encoder: Encoder, number: int) -> None:
        step = self._pace.next()
        with self._lock:
            viewers, fresh = list(self._viewers), self._fresh
            frame = self._pace.last if fresh else step.frame
            self._fresh = fresh and frame is None
        sound, picture = encoder.sound(number, step.sound), None
        if frame is not None:
            picture = encoder.picture(number, frame, key=fresh)
        sent = Sent(sound, picture, step.seconds, step.moving)
        for viewer in viewers:
            viewer(sent)


@contextmanager
def broadcasting(stream: AvatarStream, say: Callable[[str], None]) -> Iterator[Broadcast | None]:
    """A stream's broadcast while the block of code runs, where its conversation asks for one; ``say`` is told why there
    is none."""
    if not (stream.live and stream.audio.direct):
        yield None
    elif not available():
        say(MISSING)
        yield None
    else:
        import aiortc  # noqa: F401 - takes a second, in which the host's loop must not stand still

        broadcast = Broadcast(stream)
        try:
            yield broadcast
        finally:
            broadcast.end()


broadcasts: WeakValueDictionary[str, Broadcast] = WeakValueDictionary()
"""The videos that can be watched in this way, by the ids of their streams."""
