"""A transformer from a folder, without ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psutil
import torch

from ...engines.gpu.offload import WaitingBlock, spread
from ...engines.liveavatar.config import S2VConfig
from ...engines.liveavatar.fp8_blocks import Fp8Attention, Fp8Block
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.attention import eight_bit
from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish
from .host_model import CPU_PART
from .model import Placed, Report, multiplies_fp8
from .transformer import load_transformer, read_config

END_BYTES = 1 << 20
"""Bytes at each end of a file that are hashed to tell it from others."""


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
        self.device, self.dtype = torch.device(device), dtype
        self._read = lambda: load_transformer(folder, dtype, "cpu", lora, strength)
        with torch.device("meta"):
            sizes = S2VTransformer(self.architecture).parameters()
        self.bytes = sum(parameter.numel() for parameter in sizes) * dtype.itemsize
        self._identity = [str(dtype), strength, *map(_file_identity, _files(folder, lora))]
        self._made: tuple[tuple[bool, int], Placed] | None = None

    def machine(self, wish: Wish) -> Machine:
        """See `TransformerSource`."""
        free_cpu = int(CPU_PART * psutil.virtual_memory().available)
        if self.device.type != "cuda":
            return Machine(
                free=free_cpu, total=psutil.virtual_memory().total, free_cpu=0, gpu=False, fp8=False
            )
        self._made = None  # what is there from before is read anew rather than planned around
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        return Machine(
            free=free,
            total=total,
            free_cpu=free_cpu,
            gpu=True,
            fp8=multiplies_fp8(self.device),
            attention8=eight_bit.available(self.device, self.architecture.head_dim),
        )

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
        injectors = model.audio_injector.injector
        for index, injector in enumerate(injectors):
            injectors[index] = Fp8Attention(injector)
        waiting, total = [], len(model.blocks)
        chosen = set(spread(performance.blocks_on_cpu, total))
        for index in range(total):
            report(index, total)
            model.blocks[index] = Fp8Block(model.blocks[index].to(self.device))
            if index in chosen:
                waiting.append(WaitingBlock(model.blocks[index]))
        report(total, total)
        return Placed(model, waiting)

    def identity(self) -> list[Any]:
        """See `TransformerSource`: name, size and both ends of every file."""
        return self._identity


def _files(folder: str | Path, lora: str | Path | None) -> list[Path]:
    return [*sorted(Path(folder).glob("*.safetensors")), *([] if lora is None else [Path(lora)])]


def _file_identity(path: Path) -> list[Any]:
    digest, size = blake2b(digest_size=16), path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(END_BYTES))
        file.seek(max(0, size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return [path.name, size, digest.hexdigest()]
