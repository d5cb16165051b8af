"""LongCat's transformer as a session knows it: described at once, loaded when it is placed for the first time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from ...engines.gpu.offload import WaitingBlock, spread
from ...engines.gpu.pinned import keep_while
from ...engines.longcat.config import LongCatConfig
from ...engines.longcat.fp8 import use_fp8
from ...engines.longcat.int8 import Int8Linear
from ...engines.longcat.plan import Weights
from ...engines.longcat.transformer import LongCatTransformer
from ...engines.parts.planning.plan import NO_WISH, Machine
from ...host.memory import bring, make_room, memory_of, patcher_of, when_displaced
from ..files import STEM, weight_files
from ..identity import file_identity
from ..liveavatar.model import CPU_PART, Placed, machine_on
from ..lora import check_strength, resolve
from .lora import check_version, is_distilled, read_longcat_lora
from .precision import Precision
from .transformer import EIGHT_BITS_STEM, describe, load_transformer

WORKING_BLOCKS = 6
"""GPU memory for the conversion of one block, in blocks of float8: it comes in 16 bits, and a layer of it goes through
float32."""


class LongCatModel:
    """A transformer of a folder or a file with LoRAs, in ComfyUI's memory management or without a host.

    Attributes:
        architecture: its sizes.
        weights: bytes that it takes, LoRAs beside weights in 8 bits included.
        device: the device where it computes.
        loras: files and strengths.

    Raises:
        FileNotFoundError: a file is absent.
        ValueError: a file is damaged or of another model, or its weights are whole numbers and shall become float8.
        RuntimeError: ``device`` cannot compute with this ``precision``.
    """

    def __init__(
        self,
        source: str | Path,
        device: torch.device | str,
        precision: Precision = Precision.BF16,
    ) -> None:
        self.source, self.precision = Path(source), precision
        self.loras: tuple[tuple[Path, float], ...] = ()
        self.device = torch.device(device)
        self._hollow = describe(source, precision.dtype)
        self.architecture: LongCatConfig = self._hollow.config
        precision.require(self.device, self.architecture.head_dim)
        if precision.float8 and any(isinstance(layer, Int8Linear) for layer in self._hollow.modules()):
            raise ValueError(
                f"Choose the precision auto or bf16 with {self.source.name}: its weights are in 8 bits already."
            )
        rest_bytes = _bytes(self._hollow) - _bytes(self._hollow.blocks)
        block = deepcopy(self._hollow.blocks[0])
        if precision.float8:
            use_fp8(block)
        self.weights = Weights(_bytes(block), rest_bytes)
        self._model: LongCatTransformer | None = None
        self._waiting: list[WaitingBlock] | None = None
        self._patcher: Any = None

    def with_lora(self, path: str | Path, strength: float) -> LongCatModel:
        """The same with one more LoRA; ValueError for one of another model or version."""
        beside = self._checked(Path(path), strength) // self.architecture.depth
        changed = copy(self)
        changed.loras = (*self.loras, (Path(path), strength))
        changed.weights = replace(self.weights, block=self.weights.block + beside)
        changed._model = changed._waiting = changed._patcher = None
        return changed

    @property
    def distilled(self) -> bool:
        """Whether one of the LoRAs is for few steps without guidance."""
        return any(is_distilled(path) for path, _ in self.loras)

    def machine(self) -> Machine:
        """The memory and the GPU to plan with, all other models out of the way."""
        if _in_host():
            total, free = memory_of(self.device)
        elif self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            free += 0 if self._model is None else sum(t.nbytes for t in _tensors(self._model) if t.is_cuda)
        else:
            memory = psutil.virtual_memory()
            total, free = memory.total, int(CPU_PART * memory.available)
        return machine_on(self.device, self.architecture.head_dim, total, free, NO_WISH)

    def place(
        self, blocks_on_cpu: int, memory: int, beside: Sequence[Any] = ()
    ) -> Placed[LongCatTransformer]:
        """The transformer where it computes, with so many blocks in CPU memory and ``memory`` bytes of the device
        free; ``beside`` are host patchers that stay with it."""
        if self._model is None:
            self._model = self._loaded()
            if self.device.type == "cuda":
                keep_while(self._model)
        if self._waiting is None or len(self._waiting) != blocks_on_cpu:
            self._deal(blocks_on_cpu)
        if not _in_host():
            self._resident().to(self.device)
            return Placed(self._model, self._waiting)
        patchers = [self._patcher, *beside]

        def bring_back(memory: int = 0) -> None:
            bring(patchers, memory)

        bring_back(memory)
        return Placed(self._model, self._waiting, when_displaced(patchers, bring_back))

    def identity(self) -> list[Any]:
        """Values that tell it from others, for `loaders.identity.fingerprint`."""
        loras = [[file_identity(path), strength] for path, strength in self.loras]
        one = self.source.is_file()
        files = [self.source] if one else weight_files(self.source, STEM, EIGHT_BITS_STEM)
        return [self.precision.value, list(map(file_identity, files)), loras]

    def _loaded(self) -> LongCatTransformer:
        """The transformer from its files, in CPU memory."""
        model = load_transformer(self.source, self.precision.dtype, "cpu", self.loras)
        if self.precision.float8:
            if _in_host():
                make_room(self.device, WORKING_BLOCKS * self.weights.block)
            for block in model.blocks:
                use_fp8(block.to(self.device))
                block.to("cpu")
        return model

    def _deal(self, blocks_on_cpu: int) -> None:
        """Let so many blocks wait from now on, in locked memory; the others are the host's to move."""
        before, self._waiting = self._waiting or (), None  # anew, if this fails
        for block in before:
            block.leave()
        blocks, waiting = self._model.blocks, []
        try:
            for index in spread(blocks_on_cpu, len(blocks)):
                # A host may have left it on the GPU, or in memory of its own.
                waiting.append(WaitingBlock(blocks[index].to("cpu")))
        except BaseException:
            for block in waiting:
                block.leave()  # their locked memory is given back
            raise
        self._waiting = waiting
        if _in_host():
            self._patcher = patcher_of(self._resident(), self.device)

    def _resident(self) -> nn.ModuleList:
        """All that does not wait."""
        waiting = {id(block.block) for block in self._waiting}
        parts = nn.ModuleList(part for name, part in self._model.named_children() if name != "blocks")
        parts.extend(block for block in self._model.blocks if id(block) not in waiting)
        return parts

    def _checked(self, path: Path, strength: float) -> int:
        """Bytes that a LoRA takes beside weights in 8 bits; ValueError unless it belongs to this model."""
        check_strength(strength)
        lora = read_longcat_lora(path)
        check_version(path, lora, self.architecture)
        layers, pairs = self._hollow.get_submodule, resolve(lora, self._hollow).pairs
        packed = [pair for module, pair in pairs.items() if isinstance(layers(module), Int8Linear)]
        return sum(half.numel() for pair in packed for half in pair) * self.precision.dtype.itemsize


def _in_host() -> bool:
    return "comfy.model_management" in sys.modules


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in _tensors(module))


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())
