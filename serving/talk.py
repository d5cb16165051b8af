"""The route by which a page takes part in a conversation: one WebSocket, ``GET /liveavatar/talk/{id}``.

Whoever knows an id, which cannot be guessed, may talk and listen. The page that started the run is told it by the
host's message ``liveavatar.talk``: ``{"id", "node", "workflow", "prompt", "hears", "push_to_talk",
"barge_in"}``. Pages of other sites are refused, by the host where they say who they are.

From the page:

- binary: the microphone as 16-bit little-endian mono samples at 24 kHz, in pieces of 20 ms (at most a second). One page
  speaks at a time: the first that sends sound, until it has been quiet for a second or leaves.
- ``{"type": "text", "text": s}``: a typed message.
- ``{"type": "talk", "held": bool}``: push to talk.
- ``{"type": "played", "seconds": s}``: the position of the video that has been shown, about four times a second. From
  it follows what was heard; without it, the video counts as shown at the pace of real time.
- ``{"type": "stop"}``: stop what is being said; the conversation goes on.
- ``{"type": "end"}``: let the video end.

To the page, as JSON. After joining: the transcript so far, then the state.

- ``{"type": "state", "state": "listening" | "thinking" | "speaking" | "waiting"}``; waiting: nobody is listened
  to, since the conversation has not begun, hears typed messages only, or the key of push to talk is up.
- ``{"type": "heard", "text": s, "final": bool}``: what the person said; one that is not final may change, or
  be taken back by an empty text.
- ``{"type": "said", "text": s, "turn": n}``: a sentence of the answer, when its sound begins to arrive.
- ``{"type": "duck", "on": bool}``: be mute meanwhile: somebody may be interrupting.
- ``{"type": "interrupted", "seconds": s, "until": u}``: the sound of the video from s on is void, until u, where
  sound made after the interruption begins.
- ``{"type": "void", "until": u}``: it is void until u only, since the block that was being made is done anew.
- ``{"type": "timings", "turn": n, ...}``: seconds from the end of the person's speech; see ``conversation/timings.py``.
- ``{"type": "error", "message": s}``: one sentence. The conversation goes on.
- ``{"type": "end"}``: the conversation is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import WSMsgType, web

from ..conversation.talk import End, Held, Hush, Message, Played, Sound, Talk, Typed, talks
from ..media.audio import mono_samples
from .access import for_own_pages
from .speech import HEADERS, open_socket

TEXT_LETTERS = 4000
QUIET_SECONDS = 1.0
"""A page that has sent no sound for so long lets another one speak."""
WAITING = 1000
"""Messages that a page may leave unread before it is let go."""

_speaking: WeakKeyDictionary[Talk, tuple[web.WebSocketResponse, float]] = WeakKeyDictionary()
"""The page that speaks, and when it did so last."""


def register(routes: web.RouteTableDef) -> None:
    """Add the route to a server's table."""
    routes.get("/liveavatar/talk/{id}")(for_own_pages(talk))


async def talk(request: web.Request) -> web.StreamResponse:
    """A page's WebSocket, until it leaves or the conversation is over."""
    found = talks.get(request.match_info["id"])
    if found is None or found.over:
        raise web.HTTPNotFound(text="No conversation with this id is running.", headers=HEADERS)
    socket = await open_socket(request)
    loop, outbox = asyncio.get_running_loop(), asyncio.Queue()
    leave = found.join(lambda message: loop.call_soon_threadsafe(outbox.put_nowait, message))
    telling = asyncio.create_task(_tell(socket, outbox))
    try:
        async for received in socket:
            try:
                _take(found, socket, received)
            except ValueError as error:
                await socket.send_json({"type": "error", "message": str(error)})
    finally:
        leave()
        telling.cancel()
        if _speaking.get(found, (None,))[0] is socket:
            del _speaking[found]
    return socket


async def _tell(socket: web.WebSocketResponse, outbox: asyncio.Queue) -> None:
    while True:
        message = await outbox.get()
        await socket.send_json(message)
        if message["type"] == "end" or outbox.qsize() > WAITING:
            await socket.close()
            return


def _take(found: Talk, socket: web.WebSocketResponse, received: Any) -> None:
    """Hand a message on; ValueError where it cannot be read."""
    if received.type is WSMsgType.BINARY:
        if _speaks(found, socket):
            found.send(Sound(mono_samples(received.data, "s16", 1)))
    elif received.type is WSMsgType.TEXT and not found.send(_message(received.data)):
        raise ValueError("Send this again in a moment: the conversation has not caught up.")


def _speaks(found: Talk, socket: web.WebSocketResponse) -> bool:
    """Whether this page is the one that is listened to."""
    now = time.monotonic()
    speaker, heard = _speaking.get(found, (socket, now))
    if speaker is not socket and now - heard < QUIET_SECONDS:
        return False
    _speaking[found] = socket, now
    return True


def _message(text: str) -> Message:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    match said:
        case {"type": "text", "text": str(words)} if words.strip():
            if len(words) > TEXT_LETTERS:
                raise ValueError(f"Shorten the message: it may have {TEXT_LETTERS} letters.")
            return Typed(words.strip())
        case {"type": "talk", "held": bool(held)}:
            return Held(held)
        case {"type": "played", "seconds": int(seconds) | float(seconds)} if 0 <= seconds < 1e9:
            return Played(float(seconds))
        case {"type": "stop"}:
            return Hush()
        case {"type": "end"}:
            return End()
    raise ValueError("Send a message of a known type: text, talk, played, stop, end.")
