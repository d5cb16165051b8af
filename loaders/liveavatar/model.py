"""A transformer as sessions know it, from a MODEL of ComfyUI or from a folder without a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import psutil
import torch
from torch import nn

from ...engines.gpu.fp8 import require_fp8
from ...engines.gpu.generation import generation
from ...engines.gpu.graphs import obstacle
from ...engines.gpu.offload import WaitingBlock
from ...engines.gpu.pinned import kept_bytes
from ...engines.liveavatar.config import S2VConfig
from ...engines.liveavatar.speech_source import nothing
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.attention import eight_bit
from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish
from ...engines.parts.planning.sharing import Neighbour

CPU_PART = 0.8
"""Share of the free CPU memory that is taken at most."""
Report = Callable[[str], None]
"""Told what is going on, for people; raises to stop."""
Network = TypeVar("Network", bound=nn.Module)


def multiplies_fp8(device: torch.device) -> bool:
    """Whether ``device`` multiplies float8 matrices with what is installed."""
    try:
        require_fp8(device)
    except torch.OutOfMemoryError:
        raise  # there was no room to find out
    except RuntimeError:
        return False
    return True


def machine_on(
    device: torch.device, head_dim: int, total: int, free: int, wish: Wish, copied: int = 0
) -> Machine:
    """The machine to plan with, by the device's memory in bytes; see `Machine`."""
    if device.type != "cuda":
        return Machine(free=free, total=total, free_cpu=0, gpu=False, fp8=False, no_graphs=obstacle(device))
    # To find out takes seconds the first time.
    asked = wish.choice == "fast" or wish.attention8
    return Machine(
        free=free,
        total=total,
        free_cpu=int(CPU_PART * (psutil.virtual_memory().available + kept_bytes())),
        gpu=True,
        fp8=multiplies_fp8(device),
        attention8=asked and eight_bit.available(device, head_dim),
        copied=copied,
        others=() if wish.gpus == 1 else neighbours(device),
        no_graphs=obstacle(device),
    )


def neighbours(device: torch.device) -> tuple[Neighbour, ...]:
    """The other GPUs of the generation of ``device``, those with the most free memory first."""
    found = []
    for index in range(torch.cuda.device_count()):
        other = torch.device("cuda", index)
        if other != device and generation(other) == generation(device):
            free, total = torch.cuda.mem_get_info(other)
            # PyTorch's own stock is free for us.
            free += torch.cuda.memory_reserved(other) - torch.cuda.memory_allocated(other)
            found.append(Neighbour(other, free, total))
    return tuple(sorted(found, key=lambda gpu: -gpu.free))


@dataclass(frozen=True)
class Placed(Generic[Network]):
    """A transformer where it computes.

    Attributes:
        waiting: its blocks that wait in CPU memory, for `BlockOffload`.
        bring_back: has it, and the decoder that was placed with it, on the device again after another model was there.
        note: what people should know of how it came there; empty if nothing.
        steady: whether each call reads the weights where they lie, as CUDA graphs have to; its owner may bring, unpack
            or patch them anew in every call.
    """

    transformer: Network
    waiting: Sequence[WaitingBlock] = ()
    bring_back: Callable[[], None] = nothing
    note: str = ""
    steady: bool = True


class TransformerSource(Protocol):
    """A transformer that is described before it is loaded.

    Attributes:
        architecture: its sizes.
        bytes: size of all weights as they are.
        dtype: number format in which it computes.
        device: the device where it computes.
        streams: whether its owner brings weights that do not fit to the GPU layer by layer (ComfyUI does).
    """

    architecture: S2VConfig
    bytes: int
    dtype: torch.dtype
    device: torch.device
    streams: bool

    def machine(self, wish: Wish) -> Machine:
        """The memory and the GPU to plan with, all other models out of the way."""

    def place(
        self, performance: Performance, memory: int, beside: Sequence[Any], report: Report
    ) -> Placed[S2VTransformer]:
        """The transformer as planned, with ``memory`` bytes free; ``beside`` are host patchers that stay with it."""

    def identity(self) -> list[Any]:
        """Values that tell it from others, for `loaders.identity.fingerprint`."""
