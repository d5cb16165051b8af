"""The route by which a page watches a live video by WebRTC: one WebSocket, ``GET /liveavatar/stream/{id}/webrtc``.

Whoever knows the stream's id, which cannot be guessed, may watch, as with the growing file; requests of other sites
are refused by the host. The page sends ``{"type": "offer", "sdp": s}`` once, and is told:

- ``{"type": "answer", "sdp": s}``
- ``{"type": "shown", "seconds": s, "moving": b}``: how much of the video has been sent, and whether it goes on
  or waits for its next block; when that changes, and ten times a second.
- ``{"type": "end"}``: no more comes this way.
- ``{"type": "error", "message": s}``: it cannot be watched in this way; the growing file is there.

It lasts as long as the socket: a tab that is closed leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

from ..speech import HEADERS, open_socket
from .broadcast import Broadcast, Sent, broadcasts

MOST_VIEWERS = 8
"""Pages at once, of all videos."""
OFFER_SECONDS, CONNECT_SECONDS = 10.0, 10.0
TOLD_SECONDS = 0.1
"""Between two messages on how far the video is."""

_viewers = 0


def register(routes: web.RouteTableDef) -> None:
    """Add the route to a server's table."""
    routes.get("/liveavatar/stream/{id}/webrtc")(watch)


async def watch(request: web.Request) -> web.StreamResponse:
    """A page's WebSocket, until it leaves or the video is over."""
    global _viewers
    broadcast = broadcasts.get(request.match_info["id"])
    if broadcast is None or broadcast.ended:
        raise web.HTTPNotFound(text="No stream with this id is shown by WebRTC.", headers=HEADERS)
    socket = await open_socket(request)
    _viewers += 1
    try:
        if _viewers > MOST_VIEWERS:
            raise ValueError(f"Close another page: {MOST_VIEWERS} watch by WebRTC.")
        await _show(socket, broadcast, await _offer(socket))
    except (ValueError, asyncio.TimeoutError) as error:
        message = str(error) or f"Send an offer within {OFFER_SECONDS:g} s."
        await socket.send_json({"type": "error", "message": message})
    finally:
        _viewers -= 1
    await socket.close()
    return socket


async def _offer(socket: web.WebSocketResponse) -> str:
    received = await socket.receive(OFFER_SECONDS)
    try:
        match received.type is WSMsgType.TEXT and json.loads(received.data):
            case {"type": "offer", "sdp": str(sdp)}:
                return sdp
    except (ValueError, RecursionError):
        pass
    raise ValueError("Send an offer first.")


async def _show(socket: web.WebSocketResponse, broadcast: Broadcast, offer: str) -> None:
    from .peer import Peer, apart  # needs aiortc, without which there are no broadcasts

    outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop, news = asyncio.get_running_loop(), _News()

    def told(sent: Sent | None) -> None:
        if (message := news.of(sent)) is not None:
            loop.call_soon_threadsafe(outbox.put_nowait, message)

    peer = Peer(broadcast, told)
    telling = None
    try:
        answer = await apart(peer.answer(offer))
        await socket.send_json({"type": "answer", "sdp": answer})
        telling = asyncio.create_task(_tell(socket, outbox))
        async for _ in socket:
            pass  # nothing else is expected: it ends when the page leaves
    finally:
        if telling is not None:
            telling.cancel()
        await apart(peer.close())


async def _tell(socket: web.WebSocketResponse, outbox: asyncio.Queue[dict[str, Any]]) -> None:
    """Send what there is; close the socket at the end, or where the page does not connect."""
    seconds: float | None = CONNECT_SECONDS
    while True:
        try:
            message = await asyncio.wait_for(outbox.get(), seconds)
        except asyncio.TimeoutError:
            message = {"type": "end"}
        seconds = None
        await socket.send_json(message)
        if message["type"] == "end":
            await socket.close()
            return


class _News:
    """Which steps a page is told of."""

    def __init__(self) -> None:
        self._moving, self._told = False, -TOLD_SECONDS

    def of(self, sent: Sent | None) -> dict[str, Any] | None:
        """The message about a step, if there is one."""
        if sent is None:
            return {"type": "end"}
        if sent.moving == self._moving and abs(sent.seconds - self._told) < TOLD_SECONDS:
            return None
        self._moving, self._told = sent.moving, sent.seconds
        return {"type": "shown", "seconds": round(sent.seconds, 3), "moving": sent.moving}
