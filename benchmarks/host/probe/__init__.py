"""A custom node pack for `benchmarks.host`: what a ComfyUI's process holds and says, where its time goes, and a smaller
card.

``GET /probe`` gives peak bytes (of several GPUs those of the fullest), seconds, messages and moves of models since the
last call, and what is loaded now;
``PROBE_GIB`` is how large the GPU is said to be.
"""

from __future__ import annotations

import os

import psutil
import torch
from aiohttp import web
from server import PromptServer

from . import models, parts, texts

NODE_CLASS_MAPPINGS: dict[str, type] = {}

card = int(float(os.environ.get("PROBE_GIB", 0)) * 2**30)
if card and torch.cuda.is_available():
    ask = torch.cuda.mem_get_info

    def smaller(device=None) -> tuple[int, int]:
        """Free bytes as they are (another process holds the rest of the card), and the card's size."""
        return ask(device)[0], card

    torch.cuda.mem_get_info = smaller

parts.watch_nodes()
texts.watch_texts()
models.watch_models()


@PromptServer.instance.routes.get("/probe")
async def probe(_: web.Request) -> web.Response:
    parts.watch_parts()
    own = psutil.Process().memory_info()
    found = {"rss": own.rss, "shared": own.shared, "locked, unused": parts.kept_bytes()}
    if torch.cuda.is_available():
        gpus = range(torch.cuda.device_count())
        found |= {
            "allocated": max(map(torch.cuda.max_memory_allocated, gpus)),
            "reserved": max(map(torch.cuda.max_memory_reserved, gpus)),
            "allocated after": max(map(torch.cuda.memory_allocated, gpus)),
            "reserved after": max(map(torch.cuda.memory_reserved, gpus)),
            "free": min(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus),
        }
        for gpu in gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
    found |= {"seconds": parts.taken(), "messages": texts.taken(), "moved": models.taken()}
    return web.json_response(found | {"loaded": models.loaded()})
