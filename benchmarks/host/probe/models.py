"""Which models the host's memory management moves."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from comfy import model_management
from comfy.model_management import LoadedModel

NOTHING = 0.05
"""Seconds that a move takes at most where nothing is moved."""
moves: list[str] = []


def taken() -> list[str]:
    """The moves since the last call: what was brought in (+) or let go (-), GB on the device before and after."""
    found = list(moves)
    moves.clear()
    return found


def loaded() -> list[str]:
    """What is on a device now, of how much in all."""
    entries = [entry for entry in model_management.current_loaded_models if entry.model is not None]
    return [f"{name(entry)} {gb(entry):.1f} of {entry.model_memory() / 1e9:.1f} GB" for entry in entries]


def watch_models() -> None:
    """Note every move."""
    LoadedModel.model_load = noted("+", LoadedModel.model_load)
    LoadedModel.model_unload = noted("-", LoadedModel.model_unload)


def noted(sign: str, move: Callable[..., Any]) -> Callable[..., Any]:
    """``move``, which adds a line to `moves` if it takes time or changes anything."""

    @functools.wraps(move)
    def call(entry: LoadedModel, *args, **kwargs):
        model, before, started = name(entry), gb(entry), time.monotonic()
        result = move(entry, *args, **kwargs)
        after, took = gb(entry), time.monotonic() - started
        if after != before or took > NOTHING:
            moves.append(f"{sign} {model} {before:.1f} -> {after:.1f} GB, {took:.2f} s")
        return result

    return call


def name(entry: LoadedModel) -> str:
    """What kind of model it is; models of the pack are wrapped for the host."""
    model = entry.model.model
    children = dict(model.named_children())
    return type(children["module"] if list(children) == ["module"] else model).__name__


def gb(entry: LoadedModel) -> float:
    """GB on its device."""
    return 0.0 if entry.model is None else entry.model_loaded_memory() / 1e9
