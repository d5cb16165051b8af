"""What the nodes need of ComfyUI while they run: progress, interruption and memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from PIL import Image

from ..liveavatar.config import SPATIAL_STRIDE, SamplingConfig
from ..liveavatar.sampler import cache_shape
from ..liveavatar.transformer import S2VTransformer
from ..liveavatar.vae import WanVAE
from ..loaders.s2v import compute_dtype, host_config, transformer_from_host
from ..loaders.vae import vae_from_host

PREVIEW_SIZE = 512
WORKSPACE_BYTES_PER_PIXEL = 22_000
"""Room besides weights and caches: the H200's peak left 5.3 GB for it at 704x384 and 2.1 GB at 384x256, in bf16."""

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


def load_for_sampling(
    model: Any, vae: Any, config: SamplingConfig, height: int, width: int
) -> tuple[S2VTransformer, WanVAE, torch.device]:
    """Bring the transformer and the VAE to the GPU, leaving room for the caches of a ``width`` x ``height`` video.

    What of the transformer does not fit stays off-loaded and is streamed in by the host, layer by layer.
    MemoryError when the caches alone do not fit.
    """
    device = model.load_device
    shape = cache_shape(host_config(model), height // SPATIAL_STRIDE, width // SPATIAL_STRIDE, config)
    caches = config.steps * shape.bytes(compute_dtype(model))
    needed = caches + WORKSPACE_BYTES_PER_PIXEL * height * width
    total = comfy.model_management.get_total_memory(device)
    if needed > total:
        raise MemoryError(
            f"A {width}x{height} video in {config.steps} steps needs {caches / 1e9:.1f} GB for its caches, and "
            f"{device} has {total / 1e9:.1f} GB in all; choose a smaller size, fewer steps or fewer frames per clip."
        )
    wan_vae = load_vae(vae, needed)
    comfy.model_management.load_models_gpu([model, vae.patcher], memory_required=needed)
    return transformer_from_host(model), wan_vae, device
