"""Finds the folder and name that a file name prefix means, as the core's savers understand it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import folder_paths

from .names import check_prefix, leads_out
from .values import shown

PLACEHOLDER = re.compile(r"%([^%]+)%")
DATE_PART = re.compile(r"yyyy|yy|dd?|MM?|hh?|mm?|ss?")
NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


class Place(NamedTuple):
    """A file's folder, its name without number, the first number to try, and the folder within the output folder."""

    folder: Path
    name: str
    number: int
    subfolder: str


def place_for(prefix: str, root: str, hidden: Any = None, width: int = 0, height: int = 0) -> Place:
    """The place that ``prefix`` means within ``root``; its folder is made.

    ``%date:yyyy-MM-dd%`` and ``%Node.widget%`` are replaced from the ``hidden`` prompt and workflow, as the page does
    for the core's savers only, and ``%year%`` or ``%width%`` as the host does.

    Raises:
        ValueError: no file can have this name.
        OSError: the folder cannot be made.
    """
    prefix = fill_in(prefix, hidden)
    check_prefix(prefix)
    folder = os.path.abspath(os.path.join(root, os.path.dirname(os.path.normpath(prefix))))
    if not Path(folder).is_relative_to(os.path.abspath(root)):
        raise leads_out(prefix)
    try:
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"Choose another filename_prefix: a part of {shown(prefix)} is a file, not a folder."
        ) from error
    except OSError as error:
        raise OSError(
            f"Choose another filename_prefix: its folder cannot be made or read ({error.strerror or error})."
        ) from error
    return Place(Path(folder), name, number, subfolder)


def new_file(place: Place, ending: str) -> Path:
    """An empty file that nobody else has: the first ``name_<number>_<ending>`` that is free."""
    for number in count(place.number):
        path = place.folder / f"{place.name}_{number:05}_{ending}"
        try:
            path.open("xb").close()
        except FileExistsError:
            continue
        return path


def fill_in(prefix: str, hidden: Any) -> str:
    """``prefix`` with its dates and widgets' values; unknown placeholders stay as they are."""

    def value(match: re.Match) -> str:
        node, dot, widget = match[1].partition(".")
        if match[1].startswith("date:") and not dot:
            return date(match[1].removeprefix("date:"), time.localtime())
        if not dot or "." in widget:
            return match[0]
        for inputs in _inputs_of(node, hidden):
            if widget in inputs and not isinstance(inputs[widget], (list, dict)):
                return NOT_IN_NAMES.sub("_", _as_text(inputs[widget]))
        return match[0]

    return PLACEHOLDER.sub(value, prefix)


def date(pattern: str, now: time.struct_time) -> str:
    """A date as the page writes it: d, M, h, m, s, each once or twice, yy and yyyy."""
    parts = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def part(match: re.Match) -> str:
        text = match[0]
        if text[0] == "y":
            return str(now.tm_year)[-len(text) :]
        return str(parts[text[0]]).zfill(len(text))

    return DATE_PART.sub(part, pattern)


def _inputs_of(name: str, hidden: Any) -> Iterator[dict]:
    """The inputs of nodes called so: by the page's "Node name for S&R", by type, by title."""
    prompt = getattr(hidden, "prompt", None)
    prompt = prompt if isinstance(prompt, dict) else {}
    pnginfo = getattr(hidden, "extra_pnginfo", None)
    workflow = pnginfo.get("workflow") if isinstance(pnginfo, dict) else None
    listed = workflow.get("nodes") if isinstance(workflow, dict) else None
    for node in listed if isinstance(listed, list) else ():
        properties = node.get("properties") if isinstance(node, dict) else None
        if isinstance(properties, dict) and properties.get("Node name for S&R") == name:
            yield prompt.get(str(node.get("id")), {}).get("inputs", {})
    for node in prompt.values():
        if node.get("class_type") == name:
            yield node.get("inputs", {})
    for node in prompt.values():
        if (node.get("_meta") or {}).get("title") == name:
            yield node.get("inputs", {})


def _as_text(value: Any) -> str:
    """A value as JavaScript writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
