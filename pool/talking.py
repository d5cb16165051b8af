"""A live session on a WebSocket: its video on the way out, and what a person says on the way in."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import numpy as np
from avatar.jobs.access import Refusal
from avatar.media.audio import mono_samples
from starlette.websockets import WebSocket, WebSocketDisconnect

from .files import Lost
from .live import LOST, Session, Sound
from .replica import RATE

MESSAGE_BYTES = 2 * RATE
"""Most bytes of one message: a second of sound."""
TOO_LARGE = 1009
"""Why a WebSocket is closed, in its own numbers."""
TELL_SECONDS = 0.5


async def talk(
    socket: WebSocket, session: Session, pieces: AsyncGenerator[Any, None], ahead: Callable[[], int]
) -> None:
    """Show a session's video and take what comes, until one of them ends; the socket is closed then.

    Args:
        pieces: what the session's avatar makes; left when this ends.
        ahead: how many of those who wait come first.
    """
    works = [asyncio.create_task(work) for work in (_show(socket, pieces, ahead), _listen(socket, session))]
    try:
        await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for work in works:
            work.cancel()
        for ended in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect):
                logging.error("LiveAvatar: a socket has failed", exc_info=ended)
        with suppress(RuntimeError):  # it is closed already
            await socket.close()


async def tell(socket: WebSocket, error: str, **more: Any) -> None:
    """Say what is wrong."""
    await socket.send_json({"type": "error", "message": error, **more})


async def _show(socket: WebSocket, pieces: AsyncGenerator[Any, None], ahead: Callable[[], int]) -> None:
    telling = asyncio.create_task(_tell_place(socket, ahead))
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                telling.cancel()
                if isinstance(piece, bytes):
                    await socket.send_bytes(piece)
                else:
                    await socket.send_json(piece)
        await socket.send_json({"type": "ended"})
    except Lost:
        await tell(socket, LOST)
    finally:
        telling.cancel()


async def _tell_place(socket: WebSocket, ahead: Callable[[], int]) -> None:
    told = None
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if (now := ahead()) != told:
            await socket.send_json({"type": "waiting", "ahead": now})
            told = now


async def _listen(socket: WebSocket, session: Session) -> None:
    with suppress(WebSocketDisconnect):
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            sound, text = message.get("bytes"), message.get("text") or ""
            try:
                if len(text if sound is None else sound) > MESSAGE_BYTES:
                    await tell(socket, "Send at most a second of sound in a message.")
                    await socket.close(TOO_LARGE)
                    return
                if sound is None:
                    _obey(text, session)
                else:
                    session.say(Sound(mono_samples(sound, "s16", 1).numpy(), RATE))
            except (Refusal, ValueError) as error:
                await tell(socket, str(error))


def _obey(text: str, session: Session) -> None:
    """Do what a text says; ValueError where it says nothing."""
    try:
        kind = json.loads(text)["type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        kind = None
    if kind == "end":
        session.end()
    elif kind == "replace":
        session.say(Sound(np.zeros(0, np.float32), RATE, replace=True))
    else:
        raise ValueError('Send sound in binary messages, {"type": "replace"} or {"type": "end"}.')
