"""What the nodes need of ComfyUI while they run: progress and interruption."""

from __future__ import annotations

from html import escape
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.progress import get_progress_state
from PIL import Image

PREVIEW_SIZE = 512

check_interrupt = comfy.model_management.throw_exception_if_processing_interrupted


class Progress:
    """The progress bar of a node (by default the one that is running); shows the newest frame of each block on it, with
    ``most`` pixels of its longer side at most."""

    def __init__(self, node_id: str | None = None, most: int = PREVIEW_SIZE) -> None:
        self._node_id, self._most = node_id, most
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int, block: torch.Tensor | None = None) -> None:
        """``done`` of ``total`` units; ``block`` is uint8 [F, H, W, 3]."""
        if self._bar is None or done < self._bar.current:
            self._bar = comfy.utils.ProgressBar(total, self._node_id)
        preview = None
        if block is not None:
            preview = ("JPEG", Image.fromarray(block[-1].numpy()), self._most)
        self._bar.update_absolute(done, total, preview)
        if done == total and self._node_id is not None:  # the host ends only the bar of the node that runs
            get_progress_state().finish_progress(self._node_id)


def show_text(text: str, hidden: io.HiddenHolder | None) -> None:
    """Show a line on a running node and after it; ``hidden`` are the node's hidden inputs (unique_id, extra_pnginfo).

    Only who started the run is told: a page with the workflow that it is for, a program with the host's own message. A
    page would put that onto whatever node has this id, as HTML, and save it among the node's settings.
    """
    from server import PromptServer

    server = PromptServer.instance
    if hidden is None or server is None or server.client_id is None:
        return
    node = hidden.unique_id
    if (workflow := workflow_id(hidden.extra_pnginfo)) is None:
        server.send_progress_text(escape(text, quote=False), node, server.client_id)
    else:
        message = {"node": node, "workflow": workflow, "text": text}
        server.send_sync("liveavatar.text", message, server.client_id)


def workflow_id(extra_pnginfo: Any) -> str | None:
    """The random id of the workflow that a page has sent along with a run; programs may send anything in its place."""
    graph = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    found = graph.get("id") if isinstance(graph, dict) else None
    return found if isinstance(found, str) else None


def is_running(prompt_id: str | None) -> bool:
    """Whether a run is still going on; True where nobody knows."""
    from server import PromptServer

    queue = getattr(PromptServer.instance, "prompt_queue", None)
    if prompt_id is None or queue is None:
        return True
    running, _ = queue.get_current_queue_volatile()
    return any(item[1] == prompt_id for item in running)
