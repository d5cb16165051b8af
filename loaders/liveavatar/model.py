"""A transformer as sessions know it, from a MODEL of ComfyUI or from a folder without a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ...engines.gpu.fp8 import require_fp8
from ...engines.gpu.offload import WaitingBlock
from ...engines.liveavatar.config import S2VConfig
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish

Report = Callable[[int, int], None]
"""Called with the number of blocks that are done, and of all; raises to stop."""


def nothing() -> None:
    """Nothing has to be brought back."""


def multiplies_fp8(device: torch.device) -> bool:
    """Whether ``device`` multiplies float8 matrices with what is installed."""
    try:
        require_fp8(device)
    except RuntimeError:
        return False
    return True


@dataclass(frozen=True)
class Placed:
    """A transformer where it computes.

    Attributes:
        waiting: its blocks that wait in CPU memory, for `BlockOffload`.
        bring_back: has it, and the decoder that was placed with it, on the device again after another model was there.
    """

    transformer: S2VTransformer
    waiting: Sequence[WaitingBlock] = ()
    bring_back: Callable[[], None] = nothing


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

    def place(self, performance: Performance, memory: int, beside: Sequence[Any], report: Report) -> Placed:
        """The transformer as planned, with ``memory`` bytes free; ``beside`` are host patchers that stay with it."""

    def identity(self) -> list[Any]:
        """Values that tell it from others, for `loaders.identity.fingerprint`."""
