"""What the nodes need of ComfyUI while they run: progress, interruption and memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_execution.progress import get_progress_state
from PIL import Image

from ..liveavatar.vae import WanVAE
from ..loaders.vae import vae_from_host

PREVIEW_SIZE = 512

check_interrupt = comfy.model_management.throw_exception_if_processing_interrupted


class Progress:
    """The progress bar of a node (by default the one that is running); shows the newest frame of each block on it."""

    def __init__(self, node_id: str | None = None) -> None:
        self._node_id = node_id
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int, block: torch.Tensor | None = None) -> None:
        """``done`` of ``total`` units; ``block`` is uint8 [F, H, W, 3]."""
        if self._bar is None or done < self._bar.current:
            self._bar = comfy.utils.ProgressBar(total, self._node_id)
        preview = None
        if block is not None:
            preview = ("JPEG", Image.fromarray(block[-1].numpy()), PREVIEW_SIZE)
        self._bar.update_absolute(done, total, preview)
        if done == total and self._node_id is not None:  # the host ends only the bar of the node that runs
            get_progress_state().finish_progress(self._node_id)


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
