"""The models of a run, planned and brought to the GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import psutil
import torch
from comfy_api.latest import io

from ..engines.gpu.fp8 import require_fp8
from ..engines.gpu.offload import WaitingBlock
from ..engines.liveavatar.config import SamplingConfig
from ..engines.liveavatar.costs import Model, VideoCosts
from ..engines.liveavatar.transformer import S2VTransformer
from ..engines.parts.attention import eight_bit as eight_kernels
from ..engines.parts.planning.plan import Machine, Plan, Wish, make_plan
from ..engines.parts.wan.streaming import LatentDecoder
from ..engines.parts.wan.vae import WanVAE
from ..host.memory import when_displaced
from ..host.progress import check_interrupt, show_text
from ..loaders.liveavatar.fp8_copy import copied_bytes, fp8_copy
from ..loaders.liveavatar.transformer import compute_dtype, host_config, transformer_from_host
from ..loaders.wan.fast_decoder import HostDecoder
from ..loaders.wan.vae import HostVAE

CPU_PART = 0.8
"""Of the CPU memory that is free, at most this part is taken."""


@dataclass(frozen=True)
class Loaded:
    """A transformer and a decoder on ``device``, as planned.

    Attributes:
        vae: the full VAE; on the device only where it is the decoder.
        decoder: it, or the fast decoder in its place.
        waiting: the transformer's blocks that wait in CPU memory, for `BlockOffload`.
        bring_back: has both on the device again after another model (the audio encoder) was there.
    """

    plan: Plan
    transformer: S2VTransformer
    vae: WanVAE
    decoder: LatentDecoder
    device: torch.device
    waiting: list[WaitingBlock]
    bring_back: Callable[[], None]


def load_for_sampling(
    model: Any,
    vae: HostVAE,
    config: SamplingConfig,
    height: int,
    width: int,
    wish: Wish,
    hidden: io.HiddenHolder | None = None,
    decoder: HostDecoder | None = None,
) -> Loaded:
    """Plan a ``width`` x ``height`` video, and bring the models to the GPU beside the room that it needs.

    The plan, and what takes long before it, is shown on the node with the hidden inputs ``hidden``. ValueError and
    MemoryError of `make_plan` come before anything is loaded.
    """
    device = model.load_device
    plan = plan_run(model, config, height, width, wish)
    performance = plan.performance
    needed = plan.caches + plan.workspace
    shows = vae.patcher if decoder is None else decoder.patcher
    waiting: list[WaitingBlock] = []
    if performance.fp8:

        def report(done: int, total: int) -> None:
            check_interrupt()
            show_text(f"Converting the model to fp8: {done} of {total} blocks", hidden)

        copy = fp8_copy(model, performance.blocks_on_cpu, report)

        def bring_back(memory: int = 0) -> None:
            copy.load(device, [shows], memory)

        pixels = _load_decoder(vae, decoder, needed)
        bring_back(needed)
        transformer, waiting, patcher = copy.transformer, copy.waiting, copy.patcher
    else:

        def bring_back(memory: int = 0) -> None:
            comfy.model_management.load_models_gpu([model, shows], memory_required=memory)

        pixels = _load_decoder(vae, decoder, needed)
        bring_back(needed)
        transformer, patcher = transformer_from_host(model), model
    show_text(plan.text, hidden)
    come_back = when_displaced([patcher, shows], bring_back)
    return Loaded(plan, transformer, vae.vae, pixels, device, waiting, come_back)


def _load_decoder(vae: HostVAE, decoder: HostDecoder | None, memory: int) -> LatentDecoder:
    """What makes the pixels, brought to the device."""
    return vae.load(memory) if decoder is None else decoder.load(vae.vae, memory)


def plan_run(model: Any, config: SamplingConfig, height: int, width: int, wish: Wish) -> Plan:
    """The plan for a host's MODEL on its device as it is now, with all other models out of the way."""
    known = Model(host_config(model), model.model_size(), compute_dtype(model))
    return make_plan(VideoCosts(known, height, width, config), machine_of(model, wish), wish)


def machine_of(model: Any, wish: Wish) -> Machine:
    """What there is for a host's MODEL to plan with, all other models out of the way."""
    management, device = comfy.model_management, model.load_device
    total = management.get_total_memory(device)
    if device.type != "cuda":
        return Machine(free=total, total=total, free_cpu=0, gpu=False, fp8=False)
    loaded = sum(
        entry.model_loaded_memory() for entry in management.current_loaded_models if entry.device == device
    )
    free = management.get_free_memory(device) + loaded - management.extra_reserved_memory()
    try:
        require_fp8(device)
        fp8 = True
    except RuntimeError:
        fp8 = False
    # To find out takes seconds the first time.
    asked = wish.choice == "fast" or bool(wish.attention8)
    return Machine(
        free=int(free),
        total=total,
        free_cpu=int(CPU_PART * psutil.virtual_memory().available),
        gpu=True,
        fp8=fp8,
        attention8=asked and eight_kernels.available(device, host_config(model).head_dim),
        copied=copied_bytes(model),
    )
