"""Work that blocks, in a thread of its own, as a stream that can be closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[Callable[[T], None], threading.Event], None]
"""Puts its results one by one, and ends soon after the event is set."""

_END = object()


class Worker:
    """One thread, since a model serves one at a time: work that was closed ends before the next one begins."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def stream(self, work: Work[T]) -> AsyncGenerator[T, None]:
        """What ``work`` puts, as it comes; closing it stops the work within one of its steps."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        results: asyncio.Queue[Any] = asyncio.Queue()

        def put(result: Any) -> None:
            if not stop.is_set():
                loop.call_soon_threadsafe(results.put_nowait, result)

        def run() -> None:
            if stop.is_set():
                return
            try:
                work(put, stop)
                put(_END)
            except Exception as error:
                put(error)

        self._thread.submit(run)
        try:
            while (result := await results.get()) is not _END:
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            stop.set()

    async def call(self, work: Callable[[threading.Event], T]) -> T:
        """The result of a call, which ends soon after its event is set."""
        stream = self.stream(lambda put, stop: put(work(stop)))
        try:
            return await anext(stream)
        finally:
            await stream.aclose()
