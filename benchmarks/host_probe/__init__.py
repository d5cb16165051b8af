"""A custom node pack for `benchmarks.host`: what a ComfyUI's process holds, where its time goes, and a smaller card.

``GET /probe`` gives peak bytes and seconds since the last call; ``PROBE_GIB`` is how large the GPU is said to be.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import time
from collections import defaultdict

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


PARTS = {
    "reading": ("loaders.liveavatar.transformer", "_read_transformer"),
    "merging the LoRA": ("loaders.liveavatar.transformer", "merge_lora"),
    "reading the float8 copy": ("loaders.liveavatar.stored_copy", "StoredCopy.read"),
    "writing the float8 copy": ("loaders.liveavatar.stored_copy", "StoredCopy.write"),
    "conversion": ("loaders.liveavatar.fp8_copy", "fp8_copy"),
    "placing": ("loaders.liveavatar.host_model", "HostModel.place"),
    "first block": ("sessions.liveavatar", "generate"),
}
"""Functions of the pack whose time counts, by the name of what they do. Each contains those above it that it calls."""
seconds: defaultdict[str, float] = defaultdict(float)
running: tuple[str, float] | None = None


def timed(name: str, function):
    """``function``, whose seconds are added up under ``name``; those of a generator until its first value."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        started = time.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.monotonic() - started

    @functools.wraps(function)
    def generate(*args, **kwargs):
        started, values = time.monotonic(), function(*args, **kwargs)
        try:
            for number, value in enumerate(values):
                if number == 0:
                    seconds[name] += time.monotonic() - started
                yield value
        except torch.OutOfMemoryError:
            free = torch.cuda.mem_get_info()[0]
            sizes = torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), free
            print(
                "out of memory; allocated, reserved, free: " + ", ".join(f"{s / 1e9:.2f} GB" for s in sizes)
            )
            raise
        finally:
            values.close()

    return generate if inspect.isgeneratorfunction(function) else call


def watch_parts() -> None:
    """Time `PARTS`, once, wherever the host has put the pack."""
    pack = next(key for key in sys.modules if key.endswith(".sessions.liveavatar")).removesuffix(
        ".sessions.liveavatar"
    )
    while PARTS:
        name, (module, path) = PARTS.popitem()
        owner = importlib.import_module(f"{pack}.{module}")
        *classes, attribute = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        setattr(owner, attribute, timed(name, getattr(owner, attribute)))


def watch_nodes() -> None:
    """Time the nodes of a prompt, by what the host tells its pages."""
    send = PromptServer.instance.send_sync

    @functools.wraps(send)
    def told(event, data, sid=None):
        global running
        if event == "executing":
            now = time.monotonic()
            if running:
                seconds[f"node {running[0]}"] += now - running[1]
            running = (data["node"], now) if data.get("node") else None
        return send(event, data, sid)

    PromptServer.instance.send_sync = told


watch_nodes()


@PromptServer.instance.routes.get("/probe")
async def probe(_: web.Request) -> web.Response:
    watch_parts()
    own = psutil.Process().memory_info()
    found = {"rss": own.rss, "shared": own.shared, "seconds": dict(seconds)}
    seconds.clear()
    if torch.cuda.is_available():
        found |= {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "free": torch.cuda.mem_get_info()[0],
        }
        torch.cuda.reset_peak_memory_stats()
    return web.json_response(found)
