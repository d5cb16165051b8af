"""The door of a pool: its addresses, who is let in, and the way to an avatar and back.

There is one, because it knows everybody who waits. It moves bytes and computes nothing.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from avatar.jobs.access import HEADERS, Refusal, check_access, refusing
from avatar.jobs.memory import Memory
from avatar.jobs.request import read_live_request, read_request
from avatar.media.audio import mono_samples
from fastapi import FastAPI, Request, WebSocket
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from .arriving import (
    BODY_BYTES,
    PORTRAIT_BODY_BYTES,
    SPEECH_BYTES,
    body,
    files_of,
    json_body,
    picture_of,
    rate_of,
)
from .engine import samples_of
from .files import Files, Lost
from .following import Cut, follow
from .line import Line, Place
from .live import BEGIN_SECONDS, LIMIT_SECONDS, LOST, Session, Sessions, Sound
from .replica import APP, Avatar
from .settings import Settings
from .store import Record, Store
from .talking import talk, tell

MEMORY_BYTES = 2 << 30
"""What clients send takes no more of the door's memory, with what becomes of it."""
BASE64_BYTES = 256 << 20
"""A larger video is not put into JSON; its file is there."""
DECODED_AT_ONCE = 4
"""Sound files of live sessions; one may take 120 MB meanwhile."""
FRESH_SECONDS = 1.0
"""Ray is asked for the avatars no more often, because its answer takes its time."""
MP4 = "video/mp4"
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
        self._memory = Memory(MEMORY_BYTES)
        self._sessions = Sessions(self._memory)
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self._avatars_seen: tuple[float, asyncio.Task[dict[str, int]]] | None = None
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
        made, wait = await self._taken_in(request)
        id_ = made.id
        if not wait:
            told = {"id": id_, "seed": made.job.seed, **_addresses(id_)}
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
        self._sessions.check_room()
        async with json_body(request, PORTRAIT_BODY_BYTES, self._memory) as data:
            job = await asyncio.to_thread(read_live_request, data)
            _, picture = await asyncio.to_thread(picture_of, job)
            session = self._sessions.open(replace(job, image=""), picture)
        # A little later, because clocks are not the same everywhere.
        asyncio.get_running_loop().call_later(BEGIN_SECONDS + 1, self._sessions.forget_unbegun)
        one = f"/liveavatar/live/{session.id}"
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
        replaces = {"": False, "0": False, "1": True}.get(query.get("replace", ""))
        if replaces is None:
            raise Refusal(400, "Set replace to 0 or 1.")
        with refusing():
            rate = rate_of(query.get("rate"))
            async with body(request, SPEECH_BYTES, self._memory) as data:
                if rate is None:
                    async with self._decoding:
                        samples, rate = await asyncio.to_thread(samples_of, data, LIMIT_SECONDS)
                else:
                    samples = mono_samples(data, "s16", 1).numpy()
                session.say(Sound(samples, rate, replaces))
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
            await tell(socket, str(refusal), status=refusal.status)
            await socket.close(1008)
            return
        try:
            await talk(socket, session, self._shown(session), lambda: self._line.ahead(session.place))
        finally:
            self._close(session)

    @app.get("/liveavatar/health")
    async def health(self, request: Request) -> Response:
        """Whether further ones may wait; 503 where not."""
        self._let_in(request)
        avatars = await self._count_avatars()
        ready = self._line.open
        figures = {
            "ready": ready,
            "avatars": avatars,
            "queue": {"running": self._line.running, "waiting": self._line.waiting},
        }
        return JSONResponse(figures, 200 if ready else 503, HEADERS)

    # Within.

    async def _count_avatars(self) -> dict[str, int]:
        """How many avatars there are, by their state; many who ask at once are told the same."""
        now = time.monotonic()
        if self._avatars_seen is None or now - self._avatars_seen[0] > FRESH_SECONDS:
            self._avatars_seen = now, asyncio.create_task(asyncio.to_thread(_avatars_by_state))
        return await asyncio.shield(self._avatars_seen[1])

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
        session.begun, session.place = True, self._line.wait(Place())
        return session

    def _close(self, session: Session) -> None:
        self._sessions.close(session)
        self._line.leave(session.place)

    async def _taken_in(self, request: Request) -> tuple[Record, bool]:
        """The job of a request, once it waits, and whether whoever asked does so too."""
        with self._line.coming() as place:
            async with json_body(request, BODY_BYTES, self._memory) as data:
                asked = await asyncio.to_thread(read_request, data)
                if asked.workflow is not None:
                    raise Refusal(400, "Leave workflow out: all avatars of this pool are alike.")
                if asked.job.audio is None:
                    raise Refusal(400, "Send audio in place of text: this pool has no voice.")
                picture, sound = await asyncio.to_thread(files_of, asked.job)
                return await self._files.add(asked.job, picture, sound, place), asked.wait

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

    async def _shown(self, session: Session) -> AsyncGenerator[Any, None]:
        """What a session's avatar makes; the session is over when this ends or is left."""
        try:
            call = self._avatars.live.remote(session.id, session.job, session.picture)
            async with aclosing(self._told_by(call)) as items:
                async for item in items:
                    self._line.begin(session.place)
                    yield item
        finally:
            self._close(session)

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


def _avatars_by_state() -> dict[str, int]:
    states = serve.status().applications[APP].deployments[Avatar.__name__].replica_states
    return {state.lower(): count for state, count in states.items()}


async def _fragments(pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """The bytes of a live video; an error cuts the connection, so that nobody takes its beginning for all of it."""
    async with aclosing(pieces):
        async for piece in pieces:
            if not isinstance(piece, bytes):
                raise Lost(piece["message"])
            yield piece


def _addresses(id_: str) -> dict[str, str]:
    one = f"/liveavatar/generate/{id_}"
    return {"status": one, "stream": f"{one}/stream", "file": f"{one}/file"}


# Not a decorator, so that Ray's processes find the class itself under its name.
Ingress = serve.ingress(app)(Door)
