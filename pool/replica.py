"""An avatar as Ray Serve keeps it: one session at a time, for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import torch
from avatar.jobs.job import Job
from avatar.media.speech_feed import Closed, SpeechFeed
from ray import serve

from .engine import Engine
from .files import FAILED
from .live import LIMIT_SECONDS, Sound
from .one_thread import OneThread, Stopped
from .settings import Settings
from .store import Store

APP, DOOR = "liveavatar", "Door"
RATE = 24_000
ASK_SECONDS = 3.0
"""An avatar asks as often whether its file is still wanted: the door may have begun anew and forgotten it."""
STALLED_SECONDS = 900.0
"""An avatar that has made nothing for so long is replaced; loading a model, or a prompt, takes minutes at most."""


class Avatar:
    """One engine. Ray gives it a call at a time, starts it, asks after it and ends it."""

    def __init__(self, settings: Settings) -> None:
        self._engine = Engine(settings)
        self._store = Store(settings.videos)
        self._thread = OneThread()
        self._since: float | None = None  # since when nothing has come out of a call
        with torch.inference_mode():
            self._engine.warm()

    async def make(self, id_: str, attempt: str) -> AsyncIterator[dict[str, Any]]:
        """Make the file of a job; tells what has changed, in the names of a Record."""
        record = self._store.read(id_)
        stop = threading.Event()
        asking = asyncio.create_task(self._ask(attempt, stop))
        try:
            work = partial(self._engine.file, self._store.folder(id_), record.job)
            async with aclosing(self._each(work, stop)) as told:
                async for change in told:
                    yield change
        except Stopped:
            pass  # the door has forgotten it
        except Exception as error:
            yield {"state": "failed", "error": self._explained(error)}
        finally:
            asking.cancel()

    async def live(self, id_: str, job: Job, picture: bytes) -> AsyncIterator[dict[str, Any] | bytes]:
        """A live video: first what it is, then fragments; a message with an ``error`` where it ends early."""
        feed, stop = SpeechFeed(RATE, limit_seconds=2 * LIMIT_SECONDS), threading.Event()
        hearing = asyncio.create_task(self._hear(id_, feed, stop))
        try:
            work = partial(self._engine.live, job, picture, feed)
            async with aclosing(self._each(work, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        except Stopped:
            pass  # nobody watches
        except Exception as error:
            yield {"type": "error", "message": self._explained(error)}
        finally:
            hearing.cancel()
            feed.close()

    def check_health(self) -> None:
        """Asked by Ray now and then; what raises is replaced."""
        if self._since is not None and time.monotonic() - self._since > STALLED_SECONDS:
            raise RuntimeError(f"nothing was made for {STALLED_SECONDS:.0f} s")
        # Only between sessions: one that runs would hold up the answer.
        if self._since is None and not self._engine.works():
            raise RuntimeError("the device does not compute any more")

    async def _each(
        self, work: Callable[[Callable[[], None]], Iterator[Any]], stop: threading.Event
    ) -> AsyncIterator[Any]:
        self._since = time.monotonic()
        try:
            async with aclosing(self._thread.each(work, stop)) as items:
                async for item in items:
                    self._since = time.monotonic()
                    yield item
        finally:
            self._since = None

    async def _ask(self, attempt: str, stop: threading.Event) -> None:
        door = serve.get_deployment_handle(DOOR, APP)
        try:
            while await door.wants.remote(attempt):
                await asyncio.sleep(ASK_SECONDS)
        except Exception:
            logging.exception("LiveAvatar: a file is cut off from the door")
        stop.set()

    async def _hear(self, id_: str, feed: SpeechFeed, stop: threading.Event) -> None:
        door = serve.get_deployment_handle(DOOR, APP)
        try:
            while (said := await door.hear.remote(id_, feed.waiting_seconds)) is not None:
                for sound in said:
                    await asyncio.to_thread(_speak, feed, sound)
        except Closed:
            return  # the video has reached its length
        except Exception:
            logging.exception("LiveAvatar: a session is cut off from the door")
        stop.set()

    def _explained(self, error: Exception) -> str:
        """What a client is told: sentences of ours, and nothing of this machine's."""
        logging.error("LiveAvatar: a session has failed", exc_info=error)
        return str(error) if isinstance(error, (ValueError, MemoryError)) else FAILED


def _speak(feed: SpeechFeed, sound: Sound | None) -> None:
    if sound is None:
        feed.end()
    else:
        feed.write(torch.from_numpy(sound.samples.copy()), sound.rate, sound.replace)
