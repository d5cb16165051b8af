"""Videos over HTTP: a request becomes a workflow in the host's queue, and its video the answer.

``openapi.json`` describes the routes. Progress, interruption, history and the files are those of any other run.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import av
from aiohttp import web
from server import PromptServer

from ..jobs.access import HEADERS, Refusal, refusing
from ..jobs.graph import fill
from ..jobs.identity import identity
from ..jobs.job import Job
from ..jobs.request import INPUTS, read_request
from ..media.live import LiveStream, streams
from . import queue, uploads
from .access import Handler, check_access, refused
from .arriving import body
from .health import health
from .live import follow

POLL_SECONDS = 0.1
BASE64_BYTES = 256 << 20
"""A larger video is not put into JSON; its file is there."""
LARGER = "Send less, or names of files in ComfyUI's input folder."
OPENAPI = Path(__file__).with_name("openapi.json")


class Wanted(NamedTuple):
    """What a request asks for: a job (its files are those of the request), a workflow, and whether to wait."""

    job: Job
    graph: dict[str, Any]
    wait: bool


def register() -> None:
    """Add the routes to the host's server, where there is one."""
    server = PromptServer.instance
    if server is None:
        return
    routes, one = server.routes, "/liveavatar/generate/{id}"
    routes.post("/liveavatar/generate")(_answered(generate))
    routes.get(one)(_answered(status))
    routes.delete(one)(_answered(stop))
    routes.get(f"{one}/stream")(_answered(stream))
    routes.get(f"{one}/file")(_answered(file))
    routes.get("/liveavatar/health")(_answered(health))
    routes.get("/liveavatar/openapi.json")(_answered(openapi))


def _answered(handler: Handler) -> Handler:
    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            check_access(request)
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)

    return answer


async def generate(request: web.Request) -> web.StreamResponse:
    """Make a video: answered with JSON, with the file while it grows, or at once with its addresses."""
    id_, seed, wait = await _queued(request)
    if not wait:
        headers = {**HEADERS, "Location": _addresses(id_)["status"]}
        return web.json_response({"id": id_, "seed": seed, **_addresses(id_)}, status=202, headers=headers)
    if "video/mp4" in request.headers.get("Accept", ""):
        return await _growing(request, id_)
    made = await _made(id_)
    return web.json_response(await asyncio.to_thread(_told, made), headers=HEADERS)


async def status(request: web.Request) -> web.Response:
    """How far a video is."""
    return _status(_id(request))


async def stop(request: web.Request) -> web.Response:
    """Take a video out of the queue, or stop it: what was made stays in its file."""
    id_ = _id(request)
    before = queue.find(id_)
    queue.stop(id_)
    if before.state == "waiting":  # the host keeps nothing about it
        return web.json_response(_figures(replace(before, state="stopped", ahead=0)), headers=HEADERS)
    return _status(id_)


async def stream(request: web.Request) -> web.StreamResponse:
    """The video while it grows, from its first byte on."""
    return await _growing(request, _id(request))


async def file(request: web.Request) -> web.StreamResponse:
    """The finished video."""
    found = queue.find(_id(request))
    if not found.ended:
        raise Refusal(409, "Ask again later, or for the stream: this video is not finished.")
    return _file(found)


async def openapi(request: web.Request) -> web.StreamResponse:
    """The description of all this."""
    return web.FileResponse(OPENAPI, headers={**HEADERS, "Content-Type": "application/json"})


async def _queued(request: web.Request) -> tuple[str, int, bool]:
    """Id and seed of the video that a request asks for, once it is in the queue, and whether whoever asked waits."""
    queue.check_room()
    if request.content_type != "application/json":
        raise Refusal(415, "Send JSON, with 'Content-Type: application/json'.")
    async with body(request, request.client_max_size, LARGER) as data:
        wanted = await _wanted(data)
        await asyncio.to_thread(uploads.forget_unused)
        job = await asyncio.to_thread(_placed, wanted.job)
    # A request that is sent again goes on in the file of the one before.
    graph = fill(wanted.graph, job, f"http/{identity(job)[:32]}", secrets.token_hex(8))
    return await queue.put(graph, job.seed), job.seed, wanted.wait


async def _wanted(data: bytearray) -> Wanted:
    asked = await asyncio.to_thread(read_request, data)
    graph = queue.workflow(asked.workflow)
    with refusing():
        fill(graph, asked.job, "http", called=INPUTS)
    return Wanted(asked.job, graph, asked.wait)


def _placed(job: Job) -> Job:
    """The job with names that loaders know in place of files."""
    return replace(
        job,
        image=uploads.picture(job.image, "reference_image"),
        audio=None if job.audio is None else uploads.sound(job.audio, "audio"),
    )


async def _made(id_: str) -> queue.Video:
    """Wait for a finished video; Refusal where it failed."""
    while not (found := queue.find(id_)).ended:
        await asyncio.sleep(POLL_SECONDS)
    if found.state != "finished":
        raise Refusal(500, found.error)
    return found


async def _growing(request: web.Request, id_: str) -> web.StreamResponse:
    """The video while it is made; its file where the workflow writes none that grows, or where it is finished."""
    while not (found := queue.find(id_)).ended:
        live = streams.of_prompt(id_)
        if live is not None and live.mime_type and not live.complete:
            try:
                with live.reader():
                    return await follow(request, live, 0, whole=True)
            except LookupError:
                pass  # it ended in this moment: its file is there
        await asyncio.sleep(POLL_SECONDS)
    return _file(found)


def _file(found: queue.Video) -> web.StreamResponse:
    if found.state != "finished":
        raise Refusal(500, found.error)
    if not found.file.is_file():
        raise Refusal(410, "Ask for it again: this video's file was removed.")
    return web.FileResponse(found.file, headers={**HEADERS, "Content-Type": "video/mp4"})


def _told(made: queue.Video) -> dict[str, Any]:
    try:
        with av.open(str(made.file)) as opened:
            seconds = (opened.duration or 0) / av.time_base
        large = made.file.stat().st_size > BASE64_BYTES
        video = None if large else b64encode(made.file.read_bytes()).decode()
    except OSError as error:
        raise Refusal(410, "Ask for it again: this video's file was removed.") from error
    return {
        "id": made.id,
        "video": video,
        "seed": made.seed,
        "seconds": seconds,
        "file": _addresses(made.id)["file"],
    }


def _status(id_: str) -> web.Response:
    return web.json_response(_figures(queue.find(id_)), headers=HEADERS)


def _figures(found: queue.Video) -> dict[str, Any]:
    live: LiveStream | None = streams.of_prompt(found.id)
    return {
        "id": found.id,
        "state": found.state,
        "ahead": found.ahead,
        "seed": found.seed,
        "frames": live.frames if live else 0,
        "total_frames": live.total_frames if live else None,
        "fps": live.fps if live else None,
        "error": found.error,
        **_addresses(found.id),
    }


def _addresses(id_: str) -> dict[str, str]:
    one = f"/liveavatar/generate/{id_}"
    return {"status": one, "stream": f"{one}/stream", "file": f"{one}/file"}


def _id(request: web.Request) -> str:
    return request.match_info["id"]
