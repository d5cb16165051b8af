"""Where a prompt's time goes."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import time
from collections import defaultdict

import torch
from server import PromptServer

PARTS = {
    "reading": ("loaders.liveavatar.transformer", "_read_transformer"),
    "merging the LoRA": ("loaders.liveavatar.transformer", "merge_lora"),
    "reading the float8 copy": ("loaders.liveavatar.stored_copy", "StoredCopy.read"),
    "writing the float8 copy": ("loaders.liveavatar.stored_copy", "StoredCopy.write"),
    "conversion": ("loaders.liveavatar.fp8_copy", "fp8_copy"),
    "placing": ("loaders.liveavatar.host_source", "HostSource.place"),
    "first block": ("sessions.liveavatar", "generate"),
    "snapshot": ("engines.liveavatar.state", "GenerationState.save"),
    "first segment": ("sessions.longcat", "generate"),
    "placing LongCat": ("loaders.longcat.model", "LongCatModel.place"),
}
"""Functions of the pack whose time counts, by the name of what they do. Each contains those that it calls."""
seconds: defaultdict[str, float] = defaultdict(float)
running: tuple[str, float] | None = None


def taken() -> dict[str, float]:
    """Seconds by part since the last call."""
    found = dict(seconds)
    seconds.clear()
    return found


def kept_bytes() -> int:
    """Locked CPU memory of the pack that nobody uses at present."""
    return importlib.import_module(f"{_pack()}.engines.gpu.pinned").kept_bytes()


def watch_parts() -> None:
    """Time `PARTS`, once, wherever the host has put the pack."""
    while PARTS:
        name, (module, path) = PARTS.popitem()
        owner = importlib.import_module(f"{_pack()}.{module}")
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


def _pack() -> str:
    """The name that the host has given the pack."""
    end = ".sessions.liveavatar"
    return next(key for key in sys.modules if key.endswith(end)).removesuffix(end)
