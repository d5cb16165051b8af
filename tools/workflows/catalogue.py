"""All shipped workflows, of every engine."""

from __future__ import annotations

from . import batch, conversation, ditto, graphs, longcat, looks

WORKFLOWS = {
    **graphs.WORKFLOWS,
    **batch.WORKFLOWS,
    **conversation.WORKFLOWS,
    **looks.WORKFLOWS,
    **ditto.WORKFLOWS,
    **longcat.WORKFLOWS,
}


def page_name(name: str) -> str:
    """The file name, without suffix, of a workflow for the page: what the templates browser shows."""
    return WORKFLOWS[name].page_name or name
