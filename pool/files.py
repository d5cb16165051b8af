"""File jobs: each goes to an avatar, and to another one where the first is lost, until there is a video."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from avatar.jobs.job import Job

from .line import Line, Place
from .store import Record, Store

MOST_LOSSES = 3
"""So many avatars may be lost one after another without a new frame, before the job is taken for the cause."""
SWEEP_SECONDS = 600.0
FAILED = "Ask again: the pool could not make this video, and its log says why."
Make = Callable[[str, str], AsyncIterator[dict[str, Any]]]
"""What an avatar tells while it makes the job of an id; the second text names the attempt."""


class Lost(Exception):
    """The avatar is gone, with its process or its machine."""


class Files:
    """The file jobs of a pool, from the disk and back to it.

    Args:
        make: raises Lost where the avatar is lost.
        keep_seconds: how long ended jobs are kept.
    """

    def __init__(self, store: Store, line: Line, make: Make, keep_seconds: float) -> None:
        self._store, self._line, self._make, self._keep = store, line, make, keep_seconds
        self._records: dict[str, Record] = {}
        self._tasks: dict[str, asyncio.Task] = {}
        self._places: dict[str, Place] = {}
        self._attempts: set[str] = set()
        self._swept = 0.0

    def begin_again(self) -> None:
        """Take up the jobs that the disk knows; those that have not ended go on."""
        for record in self._store.all():
            self._records[record.id] = record
            if not record.over:
                self._start(record.id, Place())

    async def add(
        self, job: Job, picture: tuple[str, bytes], sound: tuple[str, bytes], place: Place
    ) -> Record:
        """A new job, which is on the disk before it is told, and waits in its place."""
        await self._sweep()
        writing = asyncio.create_task(asyncio.to_thread(self._store.add, job, picture, sound))
        try:
            record = await asyncio.shield(writing)
        except asyncio.CancelledError:  # whoever asked is gone, and the thread writes on
            self._store.remove((await writing).id)
            raise
        self._records[record.id] = record
        self._start(record.id, place)
        return record

    def find(self, id_: str) -> Record | None:
        """A job by its id."""
        return self._records.get(id_)

    def ahead(self, id_: str) -> int:
        """How many of those who wait come before a job."""
        place = self._places.get(id_)
        return 0 if place is None else self._line.ahead(place)

    def wants(self, attempt: str) -> bool:
        """Whether somebody waits for what an avatar does in this attempt."""
        return attempt in self._attempts

    async def ended(self, id_: str) -> Record:
        """A job once nothing more happens to it here; it is not over where it was put aside."""
        if (task := self._tasks.get(id_)) is not None:
            await asyncio.wait({task})
        return self._records[id_]

    def stop(self, id_: str) -> None:
        """Take a job out of the line, or from its avatar; what was made stays until it is swept away."""
        if not self._records[id_].over:
            self._change(id_, state="stopped", error="The video was stopped.")
            if (task := self._tasks.get(id_)) is not None:  # none once it was put aside
                task.cancel()

    def put_aside(self) -> None:
        """Take all jobs from their avatars, which keep what they have made: the next door takes them up."""
        for task in self._tasks.values():
            task.cancel()

    def _start(self, id_: str, place: Place) -> None:
        self._places[id_] = self._line.wait(place)
        task = asyncio.get_running_loop().create_task(self._run(id_, place))
        self._tasks[id_] = task
        task.add_done_callback(lambda _: self._leave(id_))

    def _leave(self, id_: str) -> None:
        self._tasks.pop(id_)
        self._line.leave(self._places.pop(id_))

    async def _run(self, id_: str, place: Place) -> None:
        while not self._records[id_].over:
            before = self._records[id_].frames
            try:
                await self._attempt(id_, place)
            except Lost:
                self._line.wait(place)
                record = self._records[id_]
                losses = record.losses + 1 if record.frames == before else 0
                if losses == MOST_LOSSES:
                    self._change(id_, state="failed", error=FAILED, losses=losses)
                elif not record.over:
                    self._change(id_, state="waiting", losses=losses)
            except Exception:
                logging.exception("LiveAvatar: the job %s cannot be shared out", id_)
                self._change(id_, state="failed", error=FAILED)

    async def _attempt(self, id_: str, place: Place) -> None:
        attempt = secrets.token_urlsafe(16)
        self._attempts.add(attempt)
        try:
            async with aclosing(self._make(id_, attempt)) as told:
                async for change in told:
                    self._line.begin(place)
                    self._change(id_, **{"state": "running", **change})
            if not self._records[id_].over:
                raise Lost  # it has left without a word
        finally:
            self._attempts.discard(attempt)

    def _change(self, id_: str, **changes: Any) -> None:
        record = self._records[id_]
        if record.over:
            return  # stopped meanwhile
        changed = replace(record, **changes)
        if changed.over:
            changed = replace(changed, ended=time.time())
        self._records[id_] = changed
        if (changed.state, changed.file, changed.losses) != (record.state, record.file, record.losses):
            self._store.write(changed)

    async def _sweep(self) -> None:
        now = time.time()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for record in list(self._records.values()):
            if record.ended is not None and now - record.ended > self._keep:
                del self._records[record.id]
                await asyncio.to_thread(self._store.remove, record.id)
