"""ComfyUI's memory management: models of ours in it, and the one place that asks it to move a model."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def patcher_of(module: nn.Module, device: torch.device) -> Any:
    """What ComfyUI's memory management moves between ``device``, where ``module`` computes, and CPU memory.

    It moves as a whole, and the host can always have it out of the way: where ComfyUI keeps models on the GPU
    (--highvram), it stays there until somebody needs the room.
    """
    from .whole_patcher import WholePatcher

    # The host writes attributes (``device``) onto its module that models of libraries keep read-only.
    holder = nn.ModuleDict({"module": module})
    return WholePatcher(holder, load_device=device, offload_device=torch.device("cpu"))


def bring(patchers: Sequence[Any], memory: int = 0, whole: bool = True) -> None:
    """Have the models of these patchers where they compute, with ``memory`` bytes free beside them.

    Other models make room. With ``whole`` off, the host may leave a part of one behind and bring it layer by layer.
    """
    from comfy import model_management

    model_management.load_models_gpu(list(patchers), memory_required=memory, force_full_load=whole)


def make_room(device: torch.device, memory: int) -> None:
    """Have ``memory`` bytes of a GPU free for what is made there; models that take them go out."""
    from comfy import model_management

    model_management.free_memory(memory + model_management.extra_reserved_memory(), device)


def pass_through(patcher: Any, beside: int) -> None:
    """Have a model's layers ready to be called once each, with ``beside`` bytes of its device free for what is made.

    A model that does not fit whole beside them stays in CPU memory, where the host's layers fetch their weights from:
    a part of it on the GPU would have to be carried back to make room again.
    """
    _, free = memory_of(patcher.load_device)
    fits = 1.1 * patcher.model_size() + beside <= free
    bring([patcher], beside if fits else free, whole=False)


def unlock(patcher: Any) -> None:
    """Have a host that loads weights dynamically give back the locked CPU memory through which it has brought them.

    It would keep them there for the next call, which takes as much CPU memory as the whole model.
    """
    release = getattr(patcher, "partially_unload_ram", None)  # from 0.29 on
    if release is None or patcher.load_device.type != "cuda":
        return
    torch.cuda.synchronize(patcher.load_device)  # they may still be on their way to the GPU
    release(math.inf)


def memory_of(device: torch.device) -> tuple[int, int]:
    """Bytes of ``device``: all of them, and those that would be free with every model out of the way that leaves it."""
    from comfy import model_management as management

    total = management.get_total_memory(device)
    if device.type != "cuda":
        return total, total
    loaded = sum(
        entry.model_loaded_memory()
        for entry in management.current_loaded_models
        if entry.device == device and entry.model.offload_device != device
    )
    free = management.get_free_memory(device) + loaded - management.extra_reserved_memory()
    return total, int(free)


class ManagedModule:
    """A module that is brought to its computing device on demand.

    Inside ComfyUI it is registered with the host's memory management, like a text encoder of the host, and is
    moved out again when something else needs the memory. Elsewhere it is moved to ``device`` and stays there.
    """

    def __init__(self, module: nn.Module, device: torch.device | str = "cpu") -> None:
        self.module = module.eval().requires_grad_(False)
        self.device = torch.device(device)
        self.patcher = None

    def load(self) -> torch.device:
        """Bring the module to the device where it computes, and return that device."""
        if "comfy.model_management" in sys.modules:
            return self._load_in_host()
        self.module.to(self.device)
        return self.device

    def _load_in_host(self) -> torch.device:
        from comfy import model_management

        if self.patcher is None:
            self.patcher = patcher_of(self.module, model_management.text_encoder_device())
        if not _is_loaded(self.patcher, self.patcher.model_size()):
            bring([self.patcher], whole=False)
        return self.patcher.load_device


def when_displaced(patchers: Sequence[Any], bring_back: Callable[[], None]) -> Callable[[], None]:
    """``bring_back``, but only when one of these host patchers is not on its device as far as it is now.

    Live speech asks after every block, and the host's memory management takes its time even for nothing.
    """
    sizes = [patcher.loaded_size() for patcher in patchers]

    def check() -> None:
        if not all(map(_is_loaded, patchers, sizes)):
            bring_back()

    return check


def _is_loaded(patcher: Any, size: int) -> bool:
    """Whether at least ``size`` bytes of a host patcher's model are where it computes."""
    from comfy import model_management

    return patcher in model_management.loaded_models() and patcher.loaded_size() >= size
