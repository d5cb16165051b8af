"""Memory that a GPU reads fast, and tensors that share one piece of it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 256

Layout = Sequence[tuple[Sequence[int], torch.dtype]]
"""Shapes and dtypes of tensors that lie one behind the other."""


class PinnedMemory:
    """CPU memory that a GPU reads at full speed; ordinary memory where there is no GPU.

    Attributes:
        bytes: uint8 [size]; keep this object as long as tensors over it are in use.

    Raises:
        MemoryError: the system does not lock that much.
    """

    def __init__(self, size: int) -> None:
        self.bytes = torch.empty(size, dtype=torch.uint8)
        if not torch.cuda.is_available():
            return
        # Not torch's own pinned memory, which rounds up to powers of two and is never given back.
        runtime, address = torch.cuda.cudart(), self.bytes.data_ptr()
        if int(runtime.cudaHostRegister(address, size, 0)) != 0:
            raise MemoryError(
                f"The system does not lock {size / 1e9:.1f} GB of memory for the GPU; close other programs or choose "
                "a smaller video."
            )
        weakref.finalize(self, _unlock, address).atexit = False


def _unlock(address: int) -> None:
    torch.cuda.synchronize()  # a copy may still be on its way
    torch.cuda.cudart().cudaHostUnregister(address)


def layout_bytes(layout: Layout) -> int:
    """Memory that `carve` needs for a layout."""
    return sum(_aligned(torch.Size(shape).numel() * dtype.itemsize) for shape, dtype in layout)


def carve(memory: Tensor, layout: Layout) -> list[Tensor]:
    """Tensors of the given shapes and dtypes over ``memory`` (uint8), one behind the other."""
    tensors, start = [], 0
    for shape, dtype in layout:
        size = torch.Size(shape).numel() * dtype.itemsize
        tensors.append(memory[start : start + size].view(dtype).view(*shape))
        start += _aligned(size)
    return tensors


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
