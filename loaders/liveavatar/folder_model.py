"""A transformer from a folder, without ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from ...engines.gpu.generation import indexed
from ...engines.gpu.offload import spread
from ...engines.liveavatar.config import S2VConfig
from ...engines.liveavatar.fp8_blocks import quantise_transformer
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish
from ..files import STEM, weight_files
from ..identity import file_identity
from .model import CPU_PART, Placed, Report, machine_on
from .transformer import load_transformer, read_config


class FolderModel:
    """A `TransformerSource` over a folder in the layout of Wan-AI/Wan2.2-S2V-14B, with a LoRA merged in.

    The weights are read when they are placed for the first time, and again when another plan needs them in float8 or no
    longer so.
    """

    streams = False

    def __init__(
        self,
        folder: str | Path,
        device: torch.device | str,
        dtype: torch.dtype = torch.bfloat16,
        lora: str | Path | None = None,
        strength: float = 1.0,
    ) -> None:
        self.architecture: S2VConfig = read_config(folder)
        self.device, self.dtype = indexed(torch.device(device)), dtype
        self._read = lambda: load_transformer(folder, dtype, "cpu", lora, strength)
        with torch.device("meta"):
            sizes = S2VTransformer(self.architecture).parameters()
        self.bytes = sum(parameter.numel() for parameter in sizes) * dtype.itemsize
        self._identity = [str(dtype), strength, *map(file_identity, _files(folder, lora))]
        self._made: tuple[tuple[bool, int], Placed] | None = None

    def machine(self, wish: Wish) -> Machine:
        """See `TransformerSource`."""
        memory, head_dim = psutil.virtual_memory(), self.architecture.head_dim
        if self.device.type != "cuda":
            return machine_on(self.device, head_dim, memory.total, int(CPU_PART * memory.available), wish)
        free, total = torch.cuda.mem_get_info(self.device)
        # PyTorch's own stock is free for us, and so are our weights: they stay, or make room for those of another plan.
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return machine_on(self.device, head_dim, total, free + self._on_gpu(), wish)

    def _on_gpu(self) -> int:
        """Bytes of GPU memory that the weights of an earlier plan take."""
        if self._made is None:
            return 0
        model = self._made[1].transformer
        return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda)

    def place(self, performance: Performance, memory: int, beside: Sequence[Any], report: Report) -> Placed:
        """See `TransformerSource`; nobody else's models are moved, so ``memory`` and ``beside`` mean nothing."""
        kind = performance.fp8, performance.blocks_on_cpu
        if self._made is None or self._made[0] != kind:
            self._made = None
            self._made = kind, self._placed(performance, report)
        return self._made[1]

    @torch.no_grad()
    def _placed(self, performance: Performance, report: Report) -> Placed:
        model = self._read()
        if not performance.fp8:
            return Placed(model.to(self.device))
        for name, child in model.named_children():
            if name != "blocks":
                child.to(self.device)
        total = len(model.blocks)

        def bring(index: int) -> None:
            report(f"Converting the model to fp8: {index} of {total} blocks")
            model.blocks[index].to(self.device)

        waiting = quantise_transformer(model, spread(performance.blocks_on_cpu, total), bring)
        report(f"Converting the model to fp8: {total} of {total} blocks")
        return Placed(model, waiting)

    def identity(self) -> list[Any]:
        """See `TransformerSource`: name, size and both ends of every file."""
        return self._identity


def _files(folder: str | Path, lora: str | Path | None) -> list[Path]:
    return [*weight_files(folder, STEM), *([] if lora is None else [Path(lora)])]
