"""Routes by which speech arrives. Whoever knows an id, which cannot be guessed, may speak; nothing can be read."""

from __future__ import annotations

import asyncio
from functools import partial

import torch
from aiohttp import WSMsgType, web

from ..media.audio import decode_clip, mono_samples
from ..media.sound_file import MOST_CHANNELS
from ..media.speech_feed import Closed, Full, SpeechFeed, feeds
from .access import for_own_pages
from .arriving import body

POST_BYTES = 32 << 20
FORMATS = ("s16", "f32")
MICROPHONE_RATE = 24_000
MESSAGE_BYTES = 2 * MICROPHONE_RATE
"""Most bytes of one message on a WebSocket: a second of sound."""
HEARTBEAT_SECONDS = 20.0
LARGER = f"One request may carry {POST_BYTES >> 20} MB of sound; send it in pieces."
SHOWN_LETTERS = 40
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def register(routes: web.RouteTableDef) -> None:
    """Add the routes to a server's table."""
    routes.get("/liveavatar/speech/{id}")(status)
    routes.get("/liveavatar/speech/{id}/microphone")(for_own_pages(microphone))
    routes.post("/liveavatar/speech/{id}")(for_own_pages(speak))
    routes.post("/liveavatar/speech/{id}/end")(for_own_pages(end))


async def speak(request: web.Request) -> web.Response:
    """Sound to be spoken: a whole sound file, or with ``?rate=`` plain samples (``&channels=1&format=s16`` or
    ``f32``). ``replace=1``: in place of what waits. ``mood=happy``: from this sound on. With either the body may be
    empty."""
    feed = _feed(request)
    try:
        replace = _number(request.query, "replace", 0, 1) == 1
        mood = request.query.get("mood", "")
        async with body(request, POST_BYTES, LARGER, partial(_wanted, feed)) as data:
            if data:
                samples, rate = await asyncio.to_thread(
                    _samples, request.query, bytes(data), feed.limit_seconds
                )
            elif replace or mood:
                samples, rate = torch.zeros(0), feed.rate
            else:
                raise ValueError("There is no sound in this request.")
            await asyncio.to_thread(feed.write, samples, rate, replace, mood)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error), headers=HEADERS) from error
    except Full as error:
        if error.ever:
            raise web.HTTPTooManyRequests(text=str(error), headers=HEADERS) from error
        raise web.HTTPRequestEntityTooLarge(POST_BYTES, 0, text=str(error), headers=HEADERS) from error
    except Closed as error:
        raise web.HTTPGone(text=str(error), headers=HEADERS) from error
    return _status(feed)


async def microphone(request: web.Request) -> web.StreamResponse:
    """A WebSocket on which a microphone is heard: binary messages of 16-bit little-endian mono samples at 24 kHz. What
    cannot be taken is answered with ``{"type": "error", "message": s}``."""
    feed = _feed(request)
    socket = await open_socket(request)
    async for received in socket:
        if received.type is WSMsgType.ERROR:
            break  # too large a message, after which nothing can be sent
        try:
            if received.type is not WSMsgType.BINARY:
                raise ValueError("Send sound only, in binary messages.")
            samples = mono_samples(received.data, "s16", 1)
            await asyncio.to_thread(feed.write, samples, MICROPHONE_RATE)
        except (ValueError, Full) as error:
            await socket.send_json({"type": "error", "message": str(error)})
        except Closed:
            await socket.close()
    return socket


async def open_socket(request: web.Request) -> web.WebSocketResponse:
    """The WebSocket that a page asks for; 400 where it asks for none."""
    socket = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES, heartbeat=HEARTBEAT_SECONDS)
    if not socket.can_prepare(request):
        raise web.HTTPBadRequest(text="Open this address as a WebSocket.", headers=HEADERS)
    await socket.prepare(request)
    return socket


async def end(request: web.Request) -> web.Response:
    """No more comes: what waits is spoken, then the video ends."""
    feed = _feed(request)
    feed.end()
    return _status(feed)


async def status(request: web.Request) -> web.Response:
    """How much waits and was spoken."""
    return _status(_feed(request))


def _feed(request: web.Request) -> SpeechFeed:
    feed = feeds.get(request.match_info["id"])
    if feed is not None and not feed.wanted():
        feed.close()
    if feed is None or feed.closed:
        raise web.HTTPNotFound(text="No speech with this id is running.", headers=HEADERS)
    return feed


def _status(feed: SpeechFeed) -> web.Response:
    figures = {
        "sample_rate": feed.rate,
        "waiting_seconds": round(feed.waiting_seconds, 3),
        "spoken_seconds": round(feed.spoken_seconds, 3),
        "limit_seconds": feed.limit_seconds,
        "ended": feed.ended,
        "moods": feed.moods,
        "mood": feed.mood,
    }
    return web.json_response(figures, headers=HEADERS)


def _wanted(feed: SpeechFeed) -> None:
    """Closed when the run has ended."""
    if feed.closed:
        raise Closed("This speech has ended.")


def _samples(query, data: bytes, limit_seconds: float) -> tuple[torch.Tensor, int]:
    """The mono samples of a request's body, and their rate."""
    if "rate" not in query:
        return decode_clip(data, limit_seconds)
    rate = _number(query, "rate", 8000, 96_000)
    channels = _number(query, "channels", 1, MOST_CHANNELS)
    format_ = query.get("format", FORMATS[0])
    if format_ not in FORMATS:
        raise ValueError(f"format must be {' or '.join(FORMATS)}, not {format_[:SHOWN_LETTERS]}.")
    return mono_samples(data, format_, channels), rate


def _number(query, name: str, least: int, most: int) -> int:
    text = query.get(name, str(least))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ValueError(f"{name} must be a number from {least} to {most}, not {text[:SHOWN_LETTERS]}.")
    return int(text)
