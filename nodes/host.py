"""What the nodes need of ComfyUI while they run: progress, interruption and memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from PIL import Image

from ..liveavatar.vae import WanVAE
from ..loaders.vae import vae_from_host

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


def load_vae(vae: Any, memory: int = 0) -> WanVAE:
    """The host's VAE, on its computing device and ready for the engine."""
    model = vae_from_host(vae)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory, force_full_load=True)
    return WanVAE(model)


def is_running(prompt_id: str | None) -> bool:
    """Whether a run is still going on; True where nobody knows."""
    from server import PromptServer

    queue = getattr(PromptServer.instance, "prompt_queue", None)
    if prompt_id is None or queue is None:
        return True
    running, _ = queue.get_current_queue_volatile()
    return any(item[1] == prompt_id for item in running)
