"""Node schemas for hosts of different ages."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

_KNOWN = {field.name for field in fields(io.Schema)}


def schema(*, search_aliases: list[str], category: str = "LiveAvatar", **values: Any) -> io.Schema:
    """An ``io.Schema`` of the pack; other words to find the node by go to hosts that know of them."""
    if "search_aliases" in _KNOWN:
        values["search_aliases"] = search_aliases
    return io.Schema(category=category, **values)
