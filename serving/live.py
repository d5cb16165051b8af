"""The live player's side of the host's server: streams by id, and messages to the pages about them.

Whoever knows a stream's id may read it. The id is told to the page that started the run, and to pages that name
the workflow (its own random id) to which the stream belongs; no request carries a file name.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web
from comfy.model_management import InterruptProcessingException
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..host.progress import workflow_id
from ..media.frames import AvatarStream
from ..media.live import LiveStream, streams
from . import speech as speech_routes
from . import talk as talk_routes
from .webrtc import route as webrtc_route
from .webrtc.broadcast import Broadcast, broadcasts

PIECE = 256 * 1024
POLL_SECONDS = 0.02
OFFSET_DIGITS = 18
FOLLOWERS = 2
"""So many streams one browser may follow: it has six connections to a server, for all of its tabs."""
NO_ID = "00000000-0000-0000-0000-000000000000"
"""The id of every workflow in API format that a page without the pack's own scripts has opened."""
HEADERS = {"Cache-Control": "no-store", "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}

_followers: Counter[str] = Counter()  # by the name that a browser gives itself
_pages: WeakKeyDictionary[LiveStream, frozenset[str]] = WeakKeyDictionary()
"""The pages that read a stream piece by piece, by their ids in the host's sockets."""


def register() -> None:
    """Add the routes to the host's server, where there is one."""
    server = PromptServer.instance
    if server is not None:
        server.routes.get("/liveavatar/streams")(list_streams)
        server.routes.get("/liveavatar/stream/{id}/status")(stream_status)
        server.routes.get("/liveavatar/stream/{id}")(stream_bytes)
        speech_routes.register(server.routes)
        talk_routes.register(server.routes)
        webrtc_route.register(server.routes)


@contextmanager
def watchable(
    video: AvatarStream, place: dict[str, str], extra_pnginfo: Any, broadcast: Broadcast | None = None
) -> Iterator[LiveStream]:
    """A LiveStream of the running node that pages can watch while the block of code runs, also by a broadcast where
    there is one.

    ``place`` is the file as the host's /view knows it: filename, subfolder, type.
    """
    context = get_executing_context()
    owner = {
        "workflow": workflow_id(extra_pnginfo),  # only runs from a page have one
        "node": context and context.node_id,
        "prompt": context and context.prompt_id,
    }
    live = LiveStream(
        fps=video.fps,
        total_frames=None if video.live else video.frames,
        place=place,
        owner=owner,
        plan=video.plan,
        direct=broadcast is not None,
    )
    if broadcast is not None:
        broadcasts[live.id] = broadcast
    streams.add(live)
    state = "failed"
    announce(live, to_all=True)
    try:
        yield live
        state = "finished"
    except InterruptProcessingException:
        state = "stopped"
        raise
    finally:
        live.end(state)
        announce(live, to_all=True)


def announce(live: LiveStream, *, to_all: bool = False) -> None:
    """Tell the page that started the run, and those that read the stream, how far it is; ``to_all``: let every page ask
    for its streams. Readers get the newest fragment at once."""
    server = PromptServer.instance
    if server is None:
        return
    status, readers = live.status(), _pages.get(live, frozenset())
    fragment = _newest_fragment(live) if readers else None
    for page in {server.client_id, *readers} - {None}:
        if fragment is not None and page in readers:
            server.send_sync("liveavatar.fragment", fragment, page)
        server.send_sync("liveavatar.stream", status, page)
    if to_all:
        server.send_sync("liveavatar.streams", {})


def _newest_fragment(live: LiveStream) -> dict[str, Any] | None:
    """A message with the newest fragment; None for a large one, which is asked for."""
    offset, size = live.newest()
    if not 0 < size <= PIECE:
        return None
    return {"id": live.id, "from": offset, "bytes": b64encode(live.read(offset, size)).decode()}


async def list_streams(request: web.Request) -> web.Response:
    """``?workflow=ID``: the status of the last stream of each node of that workflow; none for the id of zeros."""
    workflow = request.query.get("workflow", "")
    found = [] if workflow == NO_ID else streams.latest(workflow)
    return web.json_response([live.status() for live in found], headers=HEADERS)


async def stream_status(request: web.Request) -> web.Response:
    """How far a stream is."""
    return web.json_response(_stream(request).status(), headers=HEADERS)


async def stream_bytes(request: web.Request) -> web.StreamResponse:
    """The stream itself, followed to its end. ``?from=N`` leaves out the first N bytes.

    ``?now`` ends the answer after what there is by now: 204 while nothing is, an empty answer at the stream's end. So
    any number of tabs can watch. ``&client=ID``: the page with this socket is sent what comes.
    ``?browser=NAME`` counts who follows, at most FOLLOWERS under one name.
    A Range that ends, or starts after byte 0, is answered with what there is of it by now.
    """
    live = _stream(request)
    start = _number(request.query.get("from", "0"))
    now = "now" in request.query
    try:
        wanted = request.http_range
    except ValueError as error:
        raise web.HTTPRequestRangeNotSatisfiable(text="Ask for a range such as bytes=0-999.") from error
    try:
        with live.reader(comes_back=now):
            if now:
                _tell(live, request.query.get("client"))
                return await _what_there_is(live, start)
            with _following(request.query.get("browser")):
                # A run that goes on has bytes before its first block, but nobody knows their type yet.
                while live.mime_type is None and not live.complete:
                    await asyncio.sleep(POLL_SECONDS)
                if live.mime_type is None:
                    raise web.HTTPGone(text="This stream ended before its first block.")
                if request.method == "HEAD":
                    return web.Response(headers={**HEADERS, "Content-Type": live.mime_type})
                if wanted.stop is None and not wanted.start:
                    return await follow(request, live, start)
            return await _part(live, wanted)
    except LookupError as error:
        raise web.HTTPGone(text=str(error)) from None


def _tell(live: LiveStream, page: str | None) -> None:
    """From now on send each block to a page that has a socket."""
    sockets = PromptServer.instance.sockets
    if page in sockets:
        _pages[live] = frozenset(known for known in {page, *_pages.get(live, ())} if known in sockets)


@contextmanager
def _following(browser: str | None) -> Iterator[None]:
    """Count a follower of a browser; 429 where there would be too many."""
    if browser is None:
        yield
        return
    if _followers[browser] >= FOLLOWERS:
        raise web.HTTPTooManyRequests(text="Close a tab of this browser that plays a stream.")
    _followers[browser] += 1
    try:
        yield
    finally:
        _followers[browser] -= 1
        if not _followers[browser]:
            del _followers[browser]


async def _what_there_is(live: LiveStream, offset: int) -> web.Response:
    complete = live.complete  # asked first: what was written before it is still read
    piece = await asyncio.to_thread(live.read, offset, PIECE)
    if piece or complete:
        return web.Response(body=piece, headers=HEADERS, content_type="video/mp4")
    return web.Response(status=204, headers=HEADERS)


async def follow(
    request: web.Request, live: LiveStream, offset: int, *, whole: bool = False
) -> web.StreamResponse:
    """An answer with a stream from a byte on, until it ends; the stream must be held open meanwhile.

    ``whole``: the connection is cut where the run ends early, so that nobody takes its beginning for all of it.
    """
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": live.mime_type})
    await response.prepare(request)
    while True:
        complete = live.complete  # asked first: what was written before it is still read
        if offset < live.size and (piece := await asyncio.to_thread(live.read, offset, PIECE)):
            await response.write(piece)
            offset += len(piece)
        elif complete:
            break
        else:
            await asyncio.sleep(POLL_SECONDS)
    while whole and live.state == "running":  # the file is being closed
        await asyncio.sleep(POLL_SECONDS)
    if whole and (
        live.state != "finished" or offset < live.size
    ):  # Windows closes the file of those who read it
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def _part(live: LiveStream, wanted: slice) -> web.Response:
    size, total = live.size, live.size if live.complete else "*"
    start = max(0, size + wanted.start) if wanted.start < 0 else wanted.start
    if start >= size:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    stop = min(size, start + PIECE, size if wanted.stop is None else wanted.stop)
    body = await asyncio.to_thread(live.read, start, stop - start)
    headers = {
        **HEADERS,
        "Content-Type": live.mime_type,
        "Content-Range": f"bytes {start}-{start + len(body) - 1}/{total}",
    }
    return web.Response(status=206, body=body, headers=headers)


def _stream(request: web.Request) -> LiveStream:
    live = streams.get(request.match_info["id"])
    if live is None:
        raise web.HTTPNotFound(text="No such stream.")
    return live


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= OFFSET_DIGITS):
        raise web.HTTPBadRequest(text="'from' must be a number of bytes.")
    return int(text)
