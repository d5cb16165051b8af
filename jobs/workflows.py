"""The workflows that come with the pack, and those that somebody exported."""

from __future__ import annotations

import json
from pathlib import Path

from .graph import Graph, check_graph

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "api"
USUAL = "liveavatar_core"


def shipped() -> list[str]:
    """The names of the workflows in API format that come with the pack."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_workflow(name: str) -> Graph:
    """A shipped workflow by its name, or another one by its file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no workflow in API format; in one sentence.
    """
    file = FOLDER / f"{name}.json" if name in shipped() else Path(name)
    try:
        return check_graph(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Export the workflow again: {file} is no JSON ({error}).") from error
