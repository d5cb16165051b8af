"""An event loop whose clock jumps to the next thing to do: minutes of conversation take milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps without waiting. For work that waits for its own timers only, not for other threads or the network."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds since the loop was made, as its timers count them."""
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list:
        if timeout is None:
            raise RuntimeError("Nothing will ever happen: all tasks wait for something else than time.")
        self._loop.now += max(0.0, timeout)
        return super().select(0)


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a virtual clock; its result."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
