"""All shipped workflows, of every engine."""

from __future__ import annotations

from . import graphs, longcat

WORKFLOWS = {**graphs.WORKFLOWS, **longcat.WORKFLOWS}


def page_name(name: str) -> str:
    """The file name, without suffix, of a workflow for the page: what the templates browser shows."""
    return WORKFLOWS[name].page_name or name
