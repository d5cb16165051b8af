"""A MODEL of ComfyUI where it computes: the host's own layers, or their float8 copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish
from ...host.memory import bring, memory_of, when_displaced
from .fp8_copy import copied_bytes, fp8_copy
from .host_model import HostModel
from .model import Placed, Report, machine_on

PATCHES = ("weight_function", "bias_function")
"""Where ComfyUI's layers keep what is to be done to their weights in every call."""


class HostSource(HostModel):
    """A `TransformerSource` over a MODEL of ComfyUI."""

    def machine(self, wish: Wish) -> Machine:
        """See `TransformerSource`."""
        total, free = memory_of(self.device)
        head_dim, copied = self.architecture.head_dim, copied_bytes(self)
        return machine_on(self.device, head_dim, total, free, wish, copied)

    def place(self, performance: Performance, memory: int, beside: Sequence[Any], report: Report) -> Placed:
        """See `TransformerSource`; the host's own model stays where it is when its float8 copy runs."""
        if performance.fp8:
            copy = fp8_copy(self, performance.blocks_on_cpu, report)
            patchers, waiting = [copy.patcher, *beside], copy.waiting
        else:
            copy, patchers, waiting = None, [self.patcher, *beside], []
        note = self._format_note() if copy is None else copy.note

        def bring_back(memory: int = 0) -> None:
            bring(patchers, memory, whole=copy is not None)

        bring_back(memory)
        transformer = self.adopt() if copy is None else copy.transformer
        steady = copy is not None or reads_in_place(transformer, self.device)
        return Placed(transformer, waiting, when_displaced(patchers, bring_back), note, steady)

    def _format_note(self) -> str:
        return f"Computing in fp16, {self.float16}: the model was trained in bf16." if self.float16 else ""


def reads_in_place(transformer: nn.Module, device: torch.device) -> bool:
    """Whether the host's layers compute with their weights as they lie on ``device``.

    They do not where weights are loaded dynamically or off-loaded, come in a packed form of their own (GGUF), or are
    patched in each call, as by a LoRA that was not added to them.
    """
    for layer in transformer.modules():
        if any(getattr(layer, name, None) for name in PATCHES):
            return False
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(type(x) not in (torch.Tensor, nn.Parameter) or x.device != device for x in own):
            return False
    return True
