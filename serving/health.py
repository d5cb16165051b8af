"""Whether this machine can make a video, for those who start machines and those who share work out."""

from __future__ import annotations

from aiohttp import web
from comfy import model_management

from ..jobs.access import HEADERS
from ..media.live import streams
from . import queue


async def health(request: web.Request) -> web.Response:
    """The figures; 503 while no further video is taken."""
    running, waiting = queue.counts()
    growing = streams.running()
    device = model_management.get_torch_device()
    ready = waiting < queue.MOST_WAITING
    figures = {
        "ready": ready,
        "plan": next((stream.plan for stream in reversed(growing) if stream.plan), None),
        "memory": {
            "device": str(device),
            "free_bytes": int(model_management.get_free_memory(device)),
            "total_bytes": int(model_management.get_total_memory(device)),
        },
        "streams": len(growing),
        "queue": {"running": running, "waiting": waiting},
    }
    return web.json_response(figures, status=200 if ready else 503, headers=HEADERS)
