"""What the nodes need of ComfyUI while they run: progress and interruption."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from PIL import Image

PREVIEW_SIZE = 512

check_interrupt = comfy.model_management.throw_exception_if_processing_interrupted


class Progress:
    """The progress bar of whichever node is running; shows the newest frame of each block on it."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int, block: torch.Tensor | None = None) -> None:
        """``done`` of ``total`` units; ``block`` is uint8 [F, H, W, 3]."""
        if self._bar is None or done < self._bar.current:
            self._bar = comfy.utils.ProgressBar(total)
        preview = None
        if block is not None:
            preview = ("JPEG", Image.fromarray(block[-1].numpy()), PREVIEW_SIZE)
        self._bar.update_absolute(done, total, preview)


def show_text(text: str, node_id: str | None) -> None:
    """Show a line on a node while and after it runs."""
    from server import PromptServer

    if node_id is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, node_id)
