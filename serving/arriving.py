"""The bodies of requests, on their way in: bounded in size, number and time, whichever route they come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from ..jobs.access import Refusal
from ..jobs.memory import COPIES, Memory, patience, too_slow

MEMORY_BYTES = 2 << 30
"""Requests that are being read take no more of the host's memory, with what becomes of them."""
LOOK_SECONDS = 1.0
"""How often a body that is still arriving looks whether it is still wanted."""

memory = Memory(MEMORY_BYTES)


@asynccontextmanager
async def body(
    request: web.Request, most: int, larger: str, wanted: Callable[[], None] = lambda: None
) -> AsyncIterator[bytearray]:
    """The body of a request, whose bytes count while the block of code runs.

    Args:
        request: not read yet.
        most: bytes that it may have.
        larger: what to do where it has more.
        wanted: raises where the body need not arrive any more: its memory must not stay then.

    Raises:
        Refusal: it is too large, takes memory that others have, does not arrive in time, or cannot be read.
    """
    size = _size(request, most)
    if size > most:
        raise Refusal(413, larger)
    with memory.holding(COPIES * size):
        yield await _read(request, size, most, larger, wanted)


def _size(request: web.Request, most: int) -> int:
    """Nobody knows how large a body will be that is packed, or whose length is not told."""
    if not request.body_exists:
        return 0
    known = request.content_length is not None and "Content-Encoding" not in request.headers
    return request.content_length if known else most


async def _read(
    request: web.Request, size: int, most: int, larger: str, wanted: Callable[[], None]
) -> bytearray:
    """Not by the request's own ``read``, because it would keep it."""
    data, end = bytearray(), time.monotonic() + patience(size)
    while not request.content.at_eof():
        left = end - time.monotonic()
        if left <= 0:
            raise too_slow(size)
        try:
            data += await asyncio.wait_for(request.content.readany(), min(left, LOOK_SECONDS))
        except asyncio.TimeoutError:
            pass  # nothing new; it may not be wanted any more
        except web.RequestPayloadError as error:
            text = "Send the body as it is: it cannot be read as its headers say."
            # Nobody knows where the next request begins.
            raise Refusal(400, text, {"Connection": "close"}) from error
        if len(data) > most:
            raise Refusal(413, larger)
        wanted()
    return data
