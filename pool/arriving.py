"""What clients send, on its way in: known in its size before it is read, in time, and never too much of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from avatar.jobs.access import Refusal, refusing
from avatar.jobs.job import Job
from avatar.jobs.memory import COPIES, Memory, patience, too_slow
from avatar.jobs.request import DECODED_BYTES, PICTURE_BYTES, SOUND_BYTES, sent_bytes
from avatar.media.audio import check_clip
from avatar.media.portrait import picture_format
from fastapi import Request
from starlette.requests import ClientDisconnect

BODY_BYTES = 136 << 20
"""A picture and a sound at their limits, in base64."""
PORTRAIT_BODY_BYTES = 44 << 20
SPEECH_BYTES = 32 << 20


@asynccontextmanager
async def json_body(request: Request, most: int, memory: Memory) -> AsyncIterator[bytearray]:
    """The JSON of a request, whose bytes count while the block of code runs; Refusal as `body`."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "Send JSON, with 'Content-Type: application/json'.")
    async with body(request, most, memory) as data:
        yield data


@asynccontextmanager
async def body(request: Request, most: int, memory: Memory) -> AsyncIterator[bytearray]:
    """The body of a request, whose bytes count while the block of code runs.

    Raises:
        Refusal: its size is not told before, is too large, or takes memory that others have; or it does not arrive in
            time.
    """
    told = request.headers.get("Content-Length", "")
    if not (told.isascii() and told.isdigit()):
        raise Refusal(411, "Send Content-Length: the size of a request has to be known before it is read.")
    if len(told) > 12 or int(told) > most:
        raise Refusal(413, f"Send less: a request may have {most >> 20} MB.")
    with memory.holding(COPIES * int(told)):
        yield await _read(request, int(told))


async def _read(request: Request, size: int) -> bytearray:
    async def pieces() -> bytearray:
        data = bytearray()
        async for piece in request.stream():  # not body(), which the request would keep
            data += piece
        return data

    try:
        return await asyncio.wait_for(pieces(), patience(size))
    except asyncio.TimeoutError as error:
        raise too_slow(size) from error
    except ClientDisconnect as error:
        raise Refusal(400, "Send the whole body: the connection ended before.") from error


def files_of(job: Job) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """Picture and sound that a job has in base64, each as its format and its bytes; Refusal for anything else."""
    data = _sent(job.audio, "audio", SOUND_BYTES)
    with refusing():
        kind = check_clip(data, "audio", DECODED_BYTES)
    return picture_of(job), (kind, data)


def picture_of(job: Job) -> tuple[str, bytes]:
    """The picture alone."""
    data = _sent(job.image, "reference_image", PICTURE_BYTES)
    with refusing():
        return picture_format(data, "reference_image"), data


def rate_of(text: str | None) -> int | None:
    """The rate of samples without a header, from the address; None where there is none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 8000 <= int(text) <= 96_000):
        raise ValueError("Set rate to a number from 8000 to 96000.")
    return int(text)


def _sent(value: str, name: str, most: int) -> bytes:
    data = sent_bytes(value, name, most)
    if data is None:
        raise Refusal(400, f"Send {name} as base64: this pool has no files of its own.")
    return data
