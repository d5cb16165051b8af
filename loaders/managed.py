"""Where our own modules live: on ComfyUI's memory management when it runs, else on one device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


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
        from comfy.model_patcher import ModelPatcher

        if self.patcher is None:
            # the host writes attributes (``device``) onto its module that transformers models keep read-only
            holder = nn.ModuleDict({"module": self.module})
            self.patcher = ModelPatcher(
                holder,
                load_device=model_management.text_encoder_device(),
                offload_device=model_management.text_encoder_offload_device(),
            )
        if not _is_loaded(self.patcher, self.patcher.model_size()):
            model_management.load_model_gpu(self.patcher)
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
