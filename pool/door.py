"""The door of a pool: its addresses, who is let in, and the way to an avatar and back.

There is one, because it knows everybody who waits. It moves bytes and computes nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from avatar.jobs.access import HEADERS, Refusal, check_access, refusing
from avatar.jobs.job import Job
from avatar.jobs.request import (
    DECODED_BYTES,
    PICTURE_BYTES,
    SOUND_BYTES,
    read_live_request,
    read_request,
    sent_bytes,
)
from avatar.media.audio import check_clip, mono_samples
from avatar.media.portrait import picture_format
from fastapi import FastAPI, Request, WebSocket
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from .engine import samples_of
from .files import Files, Lost
from .following import Cut, follow
from .line import Line
from .live import LIMIT_SECONDS, Session, Sessions, Sound
from .replica import APP, RATE, Avatar
from .settings import Settings
from .store import Record, Store

BODY_BYTES = 136 << 20
"""A picture and a sound at their limits, in base64."""
SPEECH_BYTES = 32 << 20
BASE64_BYTES = 256 << 20
"""A larger video is not put into JSON; its file is there."""
MESSAGE_BYTES = 2 * RATE
"""Most bytes of one message on a WebSocket: a second of sound."""
TELL_SECONDS = 0.5
MP4 = "video/mp4"
LOST = "Begin another session: the machine of this avatar was lost."
app = FastAPI(openapi_url=None)


@app.exception_handler(Refusal)
async def refused(_: Request, refusal: Refusal) -> JSONResponse:
    """The answer to a request that is refused."""
    return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)


class Door:
    """The addresses under /liveavatar. Those of files are the ones of the service in ComfyUI."""

    def __init__(self, avatars: DeploymentHandle, settings: Settings) -> None:
        self._avatars = avatars.options(stream=True)
        self._line = Line(settings.waiting)
        self._store = Store(settings.videos)
        self._files = Files(self._store, self._line, self._made, settings.keep_hours * 3600)
        self._sessions = Sessions()
        self._files.begin_again()

    # For avatars.

    async def wants(self, attempt: str) -> bool:
        """Whether an avatar shall go on with the file that it makes."""
        return self._files.wants(attempt)

    async def hear(self, id_: str, waiting: float) -> list[Sound | None] | None:
        """What was said in a session since an avatar last asked; None when it is over."""
        session = self._sessions.find(id_)
        return None if session is None else await session.heard(waiting)

    # For whoever ends the pool.

    async def drain(self) -> int:
        """Let nobody in any more and put the file jobs aside; how many live sessions still go on."""
        self._line.closed = True
        self._files.put_aside()
        return self._sessions.running()

    # For clients.

    @app.post("/liveavatar/generate")
    async def generate(self, request: Request) -> Response:
        """Make a file: answered with JSON, with the file while it grows, or at once with its addresses."""
        self._let_in(request)
        self._line.check_room()
        asked = await asyncio.to_thread(read_request, await _body(request, BODY_BYTES))
        if asked.workflow is not None:
            raise Refusal(400, "Leave workflow out: all avatars of this pool are alike.")
        if asked.job.audio is None:
            raise Refusal(400, "Send audio in place of text: this pool has no voice.")
        picture, sound = await asyncio.to_thread(_files_of, asked.job)
        id_ = (await self._files.add(asked.job, picture, sound)).id
        if not asked.wait:
            told = {"id": id_, "seed": asked.job.seed, **_addresses(id_)}
            return JSONResponse(told, 202, {**HEADERS, "Location": told["status"]})
        try:
            if MP4 in request.headers.get("Accept", ""):
                return await self._growing(id_, leave_with_reader=True)
            made = await self._files.ended(id_)
        except asyncio.CancelledError:  # whoever asked is gone, and nobody else knows the id
            self._files.stop(id_)
            raise
        if not made.over:
            self._files.stop(id_)
            raise Refusal(
                503, "Ask again: this pool is ending.", {"Retry-After": str(self._line.retry_seconds())}
            )
        return JSONResponse(await asyncio.to_thread(self._told, made), headers=HEADERS)

    @app.get("/liveavatar/generate/{id_}")
    async def status(self, request: Request, id_: str) -> Response:
        """How far a file is."""
        return self._status(self._record(request, id_))

    @app.delete("/liveavatar/generate/{id_}")
    async def stop(self, request: Request, id_: str) -> Response:
        """Stop a file, or take it out of the line."""
        self._files.stop(self._record(request, id_).id)
        return self._status(self._record(request, id_))

    @app.get("/liveavatar/generate/{id_}/stream")
    async def stream(self, request: Request, id_: str) -> Response:
        """A file while it grows, from its first byte on."""
        return await self._growing(self._record(request, id_).id)

    @app.get("/liveavatar/generate/{id_}/file")
    async def file(self, request: Request, id_: str) -> Response:
        """A finished file, also in parts."""
        record = self._record(request, id_)
        if not record.over:
            raise Refusal(409, "Ask again later, or for the stream: this video is not finished.")
        return FileResponse(self._video(record), media_type=MP4, headers=HEADERS)

    @app.post("/liveavatar/live")
    async def open(self, request: Request) -> Response:
        """A live session: a portrait that waits to be begun."""
        self._let_in(request)
        self._line.check_room()
        job = await asyncio.to_thread(read_live_request, await _body(request, BODY_BYTES))
        picture = await asyncio.to_thread(_picture_of, job)
        one = f"/liveavatar/live/{(session := self._sessions.open(job, picture[1])).id}"
        told = {"id": session.id, "seed": job.seed, "socket": one}
        told |= {name: f"{one}/{name}" for name in ("stream", "speech", "end")}
        return JSONResponse(told, 201, {**HEADERS, "Location": one})

    @app.get("/liveavatar/live/{id_}/stream")
    async def live_stream(self, request: Request, id_: str) -> Response:
        """Begin a session: its video until it ends. Who leaves ends it."""
        self._let_in(request)
        session = self._to_begin(id_)
        pieces = self._shown(session)
        try:
            begun = await anext(pieces, {"message": LOST})
        except Lost as error:
            raise Refusal(500, LOST) from error
        except asyncio.CancelledError:  # whoever asked is gone
            await pieces.aclose()
            raise
        if "message" in begun:
            await pieces.aclose()
            raise Refusal(500, begun["message"])
        return StreamingResponse(_fragments(pieces), media_type=begun["mime_type"], headers=HEADERS)

    @app.post("/liveavatar/live/{id_}/speech")
    async def speech(self, request: Request, id_: str) -> Response:
        """Say something: a sound file, or with ``?rate=`` mono samples of 16 bits.

        ``replace=1``: in place of what waits.
        """
        self._let_in(request)
        session, query = self._session(id_), request.query_params
        data = await _body(request, SPEECH_BYTES, sound=True)
        replace = {"": False, "0": False, "1": True}.get(query.get("replace", ""))
        if replace is None:
            raise Refusal(400, "Set replace to 0 or 1.")
        with refusing():
            rate = _rate(query.get("rate"))
            if rate is None:
                samples, rate = await asyncio.to_thread(samples_of, data, LIMIT_SECONDS)
            else:
                samples = mono_samples(data, "s16", 1).numpy()
        session.say(Sound(samples, rate, replace))
        return JSONResponse({"waiting_seconds": round(session.waiting_seconds, 3)}, headers=HEADERS)

    @app.post("/liveavatar/live/{id_}/end")
    async def end(self, request: Request, id_: str) -> Response:
        """No more speech comes: the video ends when what waits is spoken."""
        self._let_in(request)
        session = self._session(id_)
        session.end()
        return JSONResponse({"waiting_seconds": round(session.waiting_seconds, 3)}, headers=HEADERS)

    @app.websocket("/liveavatar/live/{id_}")
    async def socket(self, socket: WebSocket, id_: str) -> None:
        """Begin a session on a WebSocket: speech in, its video out; see docs/POOL.md."""
        await socket.accept()  # first: whoever leaves meanwhile has begun nothing
        try:
            self._let_in(socket)
            session = self._to_begin(id_)
        except Refusal as refusal:
            await socket.send_json({"type": "error", "message": str(refusal), "status": refusal.status})
            await socket.close(1008)
            return
        works = [
            asyncio.create_task(work) for work in (self._show(socket, session), _listen(socket, session))
        ]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in works:
                work.cancel()
            for ended in await asyncio.gather(*works, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect):
                    logging.error("LiveAvatar: a socket has failed", exc_info=ended)
            self._sessions.close(session)
            with suppress(RuntimeError):  # the other side has closed it
                await socket.close()

    @app.get("/liveavatar/health")
    async def health(self, request: Request) -> Response:
        """Whether further ones may wait; 503 where not."""
        self._let_in(request)
        told = await asyncio.to_thread(serve.status)
        avatars = told.applications[APP].deployments[Avatar.__name__].replica_states
        ready = self._line.open
        figures = {
            "ready": ready,
            "avatars": {state.lower(): count for state, count in avatars.items()},
            "queue": {"running": self._line.running, "waiting": self._line.waiting},
        }
        return JSONResponse(figures, 200 if ready else 503, HEADERS)

    # Within.

    def _let_in(self, connection: HTTPConnection) -> None:
        """Refusal for who may not use the pool, and for pages of other origins."""
        headers = connection.headers
        check_access(
            connection.client.host if connection.client else "", connection.url.hostname or "", headers
        )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise Refusal(403, "Ask from a program: pages of other origins are not answered.")

    def _record(self, request: Request, id_: str) -> Record:
        self._let_in(request)
        record = self._files.find(id_)
        if record is None:
            raise Refusal(404, "No video has this id: it was never asked for, or was kept long enough.")
        return record

    def _session(self, id_: str) -> Session:
        session = self._sessions.find(id_)
        if session is None:
            raise Refusal(404, "No session has this id: it has ended, or was not begun in time.")
        return session

    def _to_begin(self, id_: str) -> Session:
        session = self._session(id_)
        if session.begun:
            raise Refusal(409, "Open another session: somebody has begun this one.")
        self._line.check_room()
        session.begun = True
        return session

    def _made(self, id_: str, attempt: str) -> AsyncIterator[dict[str, Any]]:
        return self._told_by(self._avatars.make.remote(id_, attempt))

    async def _told_by(self, call: Any) -> AsyncIterator[Any]:
        """What an avatar says; Lost where it is gone. Leaving it cancels the call, also while it waits in line."""
        try:
            async for item in call:
                yield item
        except RayActorError as error:
            raise Lost from error
        finally:
            call.cancel()

    async def _shown(self, session: Session) -> AsyncIterator[Any]:
        """What a session's avatar makes; the session is over when this ends or is left."""
        try:
            with self._line.place() as place:
                session.place = place
                call = self._avatars.live.remote(session.id, session.job, session.picture)
                async with aclosing(self._told_by(call)) as items:
                    async for item in items:
                        self._line.begin(place)
                        yield item
        finally:
            self._sessions.close(session)

    async def _show(self, socket: WebSocket, session: Session) -> None:
        telling = asyncio.create_task(self._tell_place(socket, session))
        try:
            async with aclosing(self._shown(session)) as pieces:
                async for piece in pieces:
                    telling.cancel()
                    if isinstance(piece, bytes):
                        await socket.send_bytes(piece)
                    else:
                        await socket.send_json(piece)
            await socket.send_json({"type": "ended"})
        except Lost:
            await socket.send_json({"type": "error", "message": LOST})
        finally:
            telling.cancel()

    async def _tell_place(self, socket: WebSocket, session: Session) -> None:
        told = None
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if session.place is not None and (ahead := self._line.ahead(session.place)) != told:
                await socket.send_json({"type": "waiting", "ahead": ahead})
                told = ahead

    async def _growing(self, id_: str, leave_with_reader: bool = False) -> Response:
        record = self._files.find(id_)
        if record.over:
            return FileResponse(self._video(record), media_type=MP4, headers=HEADERS)
        pieces = follow(lambda: self._files.find(id_), self._store.folder(id_))
        try:
            first = await anext(pieces)
        except Cut as error:
            ended = self._files.find(id_)
            raise Refusal(
                500, (ended and ended.error) or "The video ended before its first frame."
            ) from error

        async def all_pieces() -> AsyncIterator[bytes]:
            try:
                yield first
                async for piece in pieces:
                    yield piece
            finally:
                if leave_with_reader and (known := self._files.find(id_)) is not None and not known.over:
                    self._files.stop(id_)

        return StreamingResponse(all_pieces(), media_type=MP4, headers=HEADERS)

    def _video(self, record: Record) -> Path:
        if record.state != "finished":
            raise Refusal(500, record.error or "The video failed.")
        path = self._store.folder(record.id) / record.file
        if not path.is_file():
            raise Refusal(410, "Ask for it again: this video's file was removed.")
        return path

    def _told(self, record: Record) -> dict[str, Any]:
        path = self._video(record)
        large = path.stat().st_size > BASE64_BYTES
        return {
            "id": record.id,
            "video": None if large else b64encode(path.read_bytes()).decode(),
            "seed": record.job.seed,
            "seconds": record.total_frames / record.fps,
            "file": _addresses(record.id)["file"],
        }

    def _status(self, record: Record) -> Response:
        names = ("id", "state", "frames", "total_frames", "fps", "error")
        figures = {name: getattr(record, name) for name in names}
        figures |= {"ahead": self._files.ahead(record.id), "seed": record.job.seed, **_addresses(record.id)}
        return JSONResponse(figures, headers=HEADERS)


async def _body(request: Request, most: int, sound: bool = False) -> bytes:
    """The body of a request, whose size has to be told before; Refusal where it is too large."""
    if not sound and request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "Send JSON, with 'Content-Type: application/json'.")
    length = request.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(411, "Send Content-Length: the size of a request has to be known before it is read.")
    if len(length) > 12 or int(length) > most:
        raise Refusal(413, f"Send less: a request may have {most >> 20} MB.")
    return await request.body()


def _files_of(job: Job) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """Picture and sound of a job, each as its format and its bytes."""
    data = _sent(job.audio, "audio", SOUND_BYTES)
    with refusing():
        kind = check_clip(data, "audio", DECODED_BYTES)
    return _picture_of(job), (kind, data)


def _picture_of(job: Job) -> tuple[str, bytes]:
    data = _sent(job.image, "reference_image", PICTURE_BYTES)
    with refusing():
        return picture_format(data, "reference_image"), data


def _sent(value: str, name: str, most: int) -> bytes:
    data = sent_bytes(value, name, most)
    if data is None:
        raise Refusal(400, f"Send {name} as base64: this pool has no files of its own.")
    return data


def _rate(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 8000 <= int(text) <= 96_000):
        raise ValueError("Set rate to a number from 8000 to 96000.")
    return int(text)


async def _fragments(pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes of a live video; an error cuts the connection, so that nobody takes its beginning for all of it."""
    async with aclosing(pieces):
        async for piece in pieces:
            if not isinstance(piece, bytes):
                raise Lost(piece["message"])
            yield piece


async def _listen(socket: WebSocket, session: Session) -> None:
    """Take what comes on a WebSocket, until it is closed."""
    with suppress(WebSocketDisconnect):
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            try:
                if message.get("bytes") is None:
                    _obey(message.get("text") or "", session)
                elif len(message["bytes"]) > MESSAGE_BYTES:
                    raise ValueError("Send at most a second of sound in a message.")
                else:
                    session.say(Sound(mono_samples(message["bytes"], "s16", 1).numpy(), RATE))
            except (Refusal, ValueError) as error:
                await socket.send_json({"type": "error", "message": str(error)})


def _obey(text: str, session: Session) -> None:
    """Do what a text on a WebSocket says; ValueError where it says nothing."""
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


def _addresses(id_: str) -> dict[str, str]:
    one = f"/liveavatar/generate/{id_}"
    return {"status": one, "stream": f"{one}/stream", "file": f"{one}/file"}


# Not a decorator, so that Ray's processes find the class itself under its name.
Ingress = serve.ingress(app)(Door)
