"""Videos in the host's queue: put there, found again, stopped. The host keeps all that is known about them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import execution
from server import PromptServer

import nodes

from ..host.folders import inside
from ..jobs.access import Refusal
from ..jobs.answers import MARK, errors, refusal, video
from ..jobs.workflows import USUAL, read_workflow, shipped

WORKFLOW = "LIVEAVATAR_HTTP_WORKFLOW"
"""Environment variable: the workflow of requests that name none, by its name or as a file in API format."""
MOST_WAITING = 100
RETRY_SECONDS = 30


@dataclass(frozen=True)
class Video:
    """A video by the host's id of its run.

    Attributes:
        state: "waiting", "running", "finished", "failed" or "stopped".
        ahead: how many runs come before it, while it waits.
        error: why it failed.
        file: the finished video.
    """

    id: str
    state: str
    seed: int | None
    ahead: int = 0
    error: str | None = None
    file: Path | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self.state not in ("waiting", "running")


def workflow(name: str | None) -> dict[str, Any]:
    """A shipped workflow in API format; for None the one that the machine's owner has chosen."""
    if name is not None and name not in shipped():
        raise Refusal(
            400, f"Choose another workflow, such as {USUAL}: none of this name comes with the pack."
        )
    try:
        return read_workflow(name or os.environ.get(WORKFLOW) or USUAL)
    except (OSError, ValueError) as error:
        raise Refusal(500, f"Correct {WORKFLOW}: its workflow cannot be read.") from error


def check_room() -> None:
    """Refusal while too many runs wait."""
    if counts()[1] >= MOST_WAITING:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        raise Refusal(503, f"Ask again later: {MOST_WAITING} videos are waiting.", headers)


def counts() -> tuple[int, int]:
    """How many runs are running and waiting, of whomever."""
    running, waiting = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return len(running), len(waiting)


async def put(graph: dict[str, Any], seed: int) -> str:
    """Queue a workflow as the host's own route does; returns its id. Refusal with the reasons of nodes."""
    server, id_ = PromptServer.instance, str(uuid.uuid4())
    told = server.trigger_on_prompt({"prompt": graph, "prompt_id": id_, "extra_data": {}})
    valid, error, outputs, node_errors = await execution.validate_prompt(id_, told["prompt"], None)
    if not valid:
        raise Refusal(400, refusal({"error": error, "node_errors": node_errors}))
    check_room()  # others have come while this request was read
    extra = {**told["extra_data"], MARK: {"seed": seed}, "create_time": int(time.time() * 1000)}
    number, server.number = server.number, server.number + 1
    server.prompt_queue.put((number, id_, told["prompt"], extra, outputs, {}))
    return id_


def find(id_: str) -> Video:
    """A video by its id; Refusal for runs that are none and for those that the host has forgotten."""
    queue = PromptServer.instance.prompt_queue
    running, waiting = queue.get_current_queue_volatile()  # first: what leaves the queue is in the history
    for item in running:
        if item[1] == id_:
            return Video(id_, "running", _seed(item))
    for item in waiting:
        if item[1] == id_:
            ahead = len(running) + sum(other[0] < item[0] for other in waiting)
            return Video(id_, "waiting", _seed(item), ahead)
    entry = queue.get_history(prompt_id=id_).get(id_)
    if entry is None:
        raise Refusal(
            404, "No video has this id: it was never asked for, taken out of the queue, or forgotten."
        )
    return _ended(id_, entry)


def stop(id_: str) -> None:
    """Take a video out of the queue, or interrupt its run."""
    queue = PromptServer.instance.prompt_queue
    if find(id_).ended or queue.delete_queue_item(lambda item: item[1] == id_):
        return
    if any(item[1] == id_ for item in queue.get_current_queue_volatile()[0]):
        nodes.interrupt_processing()


def _ended(id_: str, entry: Mapping[str, Any]) -> Video:
    seed, status = _seed(entry["prompt"]), entry.get("status") or {}
    if any(kind == "execution_interrupted" for kind, _ in status.get("messages", ())):
        return Video(id_, "stopped", seed, error="The run was stopped.")
    if not status.get("completed"):
        return Video(id_, "failed", seed, error="\n".join(errors(entry)) or "The run failed.")
    place = video(entry)
    if place is None:
        return Video(id_, "failed", seed, error="The workflow saved no video.")
    file = inside(f"{place['subfolder']}/{place['filename']} [{place['type']}]".lstrip("/"))
    return Video(id_, "finished", seed, file=file)


def _seed(item: Any) -> int | None:
    """The seed of a queue item or of a history entry's prompt; Refusal where it was not queued as a video."""
    mark = item[3].get(MARK)
    if not isinstance(mark, Mapping):
        raise Refusal(404, "No video has this id.")
    seed = mark.get("seed")
    return seed if isinstance(seed, int) else None
