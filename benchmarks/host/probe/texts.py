"""What nodes tell a program."""

from __future__ import annotations

import functools
import html
import re

from server import PromptServer

messages: dict[str, str] = {}


def taken() -> list[str]:
    """The texts since the last call in their order; of those that differ in their numbers only, the last."""
    found = list(messages.values())
    messages.clear()
    return found


def watch_texts() -> None:
    """Keep every text that a node shows."""
    send = PromptServer.instance.send_progress_text

    @functools.wraps(send)
    def told(text, node_id, *args, **kwargs):
        for line in html.unescape(str(text)).splitlines():
            messages[re.sub(r"\d+", "#", line)] = f"{node_id}: {line}"
        return send(text, node_id, *args, **kwargs)

    PromptServer.instance.send_progress_text = told
