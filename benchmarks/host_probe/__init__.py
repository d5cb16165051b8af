"""A custom node pack for `benchmarks.host`: what a ComfyUI's process holds, and a card that is said to be smaller.

``GET /probe`` gives peak bytes since the last call; ``PROBE_GIB`` is how large the GPU is said to be.
"""

from __future__ import annotations

import os

import psutil
import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}

card = int(float(os.environ.get("PROBE_GIB", 0)) * 2**30)
if card and torch.cuda.is_available():
    ask = torch.cuda.mem_get_info

    def smaller(device=None) -> tuple[int, int]:
        """Free bytes as they are (another process holds the rest of the card), and the card's size."""
        return ask(device)[0], card

    torch.cuda.mem_get_info = smaller


@PromptServer.instance.routes.get("/probe")
async def probe(_: web.Request) -> web.Response:
    own = psutil.Process().memory_info()
    found = {"rss": own.rss, "shared": own.shared}
    if torch.cuda.is_available():
        found |= {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "free": torch.cuda.mem_get_info()[0],
        }
        torch.cuda.reset_peak_memory_stats()
    return web.json_response(found)
