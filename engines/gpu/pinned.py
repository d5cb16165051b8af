"""Memory that a GPU reads fast, and tensors that share one piece of it."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 256

Layout = Sequence[tuple[Sequence[int], torch.dtype]]
"""Shapes and dtypes of tensors that lie one behind the other."""


class PinnedMemory:
    """CPU memory that a GPU reads at full speed; ordinary memory where there is no GPU.

    Locking takes seconds, so what is given back is kept for the next one who asks; see `keep_while`.

    Attributes:
        bytes: uint8 [size]; keep this object as long as tensors over it are in use.

    Raises:
        MemoryError: the system does not lock that much.
    """

    def __init__(self, size: int) -> None:
        if not torch.cuda.is_available():
            self.bytes = torch.empty(size, dtype=torch.uint8)
            return
        piece = _kept_piece(size)
        if piece is None:
            piece = _locked(-(-size // GRANULE) * GRANULE)
        self.bytes = piece[:size]
        weakref.finalize(self, _give_back, piece).atexit = False


GRANULE = 2**26
"""Locked memory comes in multiples of so many bytes, so that one video's holds what a similar one needs."""
MUCH_LARGER = 8
"""A kept piece so many times as large as what is asked for stays, for one who asks for as much."""
_kept: list[Tensor] = []
_keepers: weakref.WeakSet[Any] = weakref.WeakSet()
_changing = threading.Lock()
"""Held by whoever changes what is kept."""
_returned: deque[Tensor] = deque()
"""What was given back and is not yet kept or unlocked. Python collects objects in any thread and at any place, so
nothing more than this may happen there while somebody changes what is kept."""


def keep_while(owner: Any) -> None:
    """Keep locked memory that is given back while ``owner`` lives, such as the model that will ask for it again."""
    if owner not in _keepers:
        _keepers.add(owner)
        weakref.finalize(owner, _settle).atexit = False


def kept_bytes() -> int:
    """Locked memory that nobody uses at present."""
    return sum(piece.nbytes for piece in (*_kept, *_returned))


def _kept_piece(size: int) -> Tensor | None:
    with _changing:
        _take_back()
        fitting = [piece for piece in _kept if size <= piece.nbytes <= 2 * size]
        piece = min(fitting, key=lambda piece: piece.nbytes, default=None)
        if piece is None:
            # They would only take room from the new piece; but one block of weights is not worth a whole video's
            # caches.
            _unlock_kept(MUCH_LARGER * size)
        else:
            _kept[:] = [other for other in _kept if other is not piece]
            torch.cuda.synchronize()  # a copy may still be on its way
    _settle()
    return piece


def _locked(size: int) -> Tensor:
    # Not torch's own pinned memory, which rounds up to powers of two and is never given back.
    # All cores find its pages while it is filled: 0.11 s per GB in all, where locking alone finds them in 0.42.
    piece = torch.empty(size, dtype=torch.uint8).zero_()
    if int(torch.cuda.cudart().cudaHostRegister(piece.data_ptr(), size, 0)) != 0:
        _forget_error()
        raise MemoryError(
            f"The system does not lock {size / 1e9:.1f} GB of memory for the GPU; close other programs or choose a "
            "smaller video."
        )
    return piece


def _forget_error() -> None:
    """Take CUDA's note of an error that was told already, which the next kernel would raise."""
    with suppress(RuntimeError):
        torch.zeros(1, device="cuda")


def _give_back(piece: Tensor) -> None:
    _returned.append(piece)
    _settle()


def _settle() -> None:
    """Keep what was given back, or unlock it where nobody wants it kept; whoever holds the lock does it when he has
    let go."""
    while (_returned or (_kept and not _wanted())) and _changing.acquire(blocking=False):
        try:
            _take_back()
        finally:
            _changing.release()


def _take_back() -> None:
    while _returned:
        _kept.append(_returned.popleft())
    if not _wanted():
        _unlock_kept()


def _wanted() -> bool:
    return bool(list(_keepers))  # its length counts those that are just dying


def _unlock_kept(most: float = math.inf) -> None:
    """Unlock the kept pieces of up to ``most`` bytes."""
    pieces = [piece for piece in _kept if piece.nbytes <= most]
    if not pieces:
        return
    _kept[:] = [piece for piece in _kept if piece.nbytes > most]
    torch.cuda.synchronize()  # a copy may still be on its way
    for piece in pieces:
        torch.cuda.cudart().cudaHostUnregister(piece.data_ptr())


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
