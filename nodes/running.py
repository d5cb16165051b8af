"""Binds what outlives a node's call to the run that made it, and tells the page where it can be reached."""

from __future__ import annotations

import re
import secrets
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..host.progress import is_running, workflow_id
from ..media.speech_feed import SpeechFeed

OWN_ID = re.compile(r"[A-Za-z0-9_-]{16,128}")


def check_id(own: str) -> None:
    """ValueError for an id that can be guessed; an empty one stands for a new secret one."""
    if own and not OWN_ID.fullmatch(own):
        raise ValueError(
            "Leave the id empty for a new secret one, or give it 16 to 128 letters, digits, - or _, so that nobody can "
            "guess it."
        )


def bind(feed: SpeechFeed) -> None:
    """Let a feed be wanted as long as the run that goes on now."""
    context = get_executing_context()
    feed.owner = context and context.prompt_id
    feed.wanted = partial(is_running, feed.owner)


def publish(
    known: MutableMapping[str, Any],
    one: Any,
    feed: SpeechFeed,
    own_id: str,
    message: str,
    hidden: io.HiddenHolder,
    **about: Any,
) -> None:
    """Make ``one``, which has this feed, known under an id, and tell the page that started the run which one.

    ValueError when another node of the same run has the id.
    """
    id_ = own_id or secrets.token_urlsafe(16)
    if (other := known.get(id_)) is not None:
        others = other if isinstance(other, SpeechFeed) else other.feed
        if others.owner == feed.owner and not others.closed:
            raise ValueError(f"Give each node its own id: two nodes of this workflow listen to {id_}.")
        others.close()  # left behind by a run that failed
    known[id_] = one
    server = PromptServer.instance
    if server is not None and server.client_id is not None:
        place = {"id": id_, "node": hidden.unique_id, "prompt": feed.owner}
        place |= {"workflow": workflow_id(hidden.extra_pnginfo), **about}
        server.send_sync(message, place, server.client_id)
