"""An iterator's work in a thread of its own, for an event loop that must go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
END: Any = object()


class Stopped(Exception):
    """The work is not wanted any more."""


class OneThread:
    """One thread for all work, one piece after another, because torch's modes belong to a thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "avatar")

    async def each(
        self, make: Callable[[Callable[[], None]], Iterator[Item]], stop: threading.Event
    ) -> AsyncIterator[Item]:
        """The items of ``make(check)``, made one after another without gradients.

        ``check`` raises Stopped once ``stop`` is set or this iterator is left; the work has ended then before the
        caller goes on.
        """

        def check() -> None:
            if stop.is_set():
                raise Stopped

        items = make(check)
        try:
            while (item := await self._do(next, items, END)) is not END:
                yield item
        finally:
            stop.set()
            await self._do(items.close)

    async def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, _without_gradients, call, arguments
        )


@torch.inference_mode()
def _without_gradients(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return call(*arguments)
