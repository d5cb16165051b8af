"""Blocks whose weights wait in CPU memory and travel to the GPU while the blocks before them compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .lanes import Lane, Prefetcher
from .pinned import Layout, PinnedMemory, carve, layout_bytes
from .weights import places

BUFFERS = 2


def spread(count: int, layers: int) -> list[int]:
    """Which ``count`` of ``layers`` wait: evenly spread, so that every copy has computation to hide behind."""
    return [index * layers // count for index in range(count)]


class WaitingBlock:
    """A block of layers with its weights in one piece of pinned CPU memory; an empty one is filled there."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self._places = list(places(block))
        tensors = [owner[name] for owner, name in self._places]
        self.layout: Layout = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
        self.memory = PinnedMemory(layout_bytes(self.layout))
        self._resting = carve(self.memory.bytes, self.layout)
        for rest, tensor in zip(self._resting, tensors, strict=True):
            if not tensor.is_meta:
                rest.copy_(tensor)
        self.rest()

    def use(self, tensors: Sequence[Tensor]) -> None:
        """Compute from now on with these tensors, which have the block's layout."""
        for (owner, name), tensor in zip(self._places, tensors, strict=True):
            if isinstance(owner[name], nn.Parameter):
                owner[name].data = tensor
            else:
                owner[name] = tensor

    def rest(self) -> None:
        """Be an ordinary block on the CPU again."""
        self.use(self._resting)

    def leave(self) -> None:
        """Let the block have memory of its own on the CPU; this object is of no more use."""
        self.use([tensor.clone() for tensor in self._resting])


class BlockOffload:
    """Brings waiting blocks to the GPU in the order in which the transformer runs them, over and over.

    Takes the GPU memory of two blocks. Call `close` when the run is over; as a context manager it does so itself.

    Args:
        waiting: in the order in which they run; all of the same layout.
        outside: layers of a block that are also called outside of its own forward.
    """

    def __init__(
        self,
        waiting: Sequence[WaitingBlock],
        device: torch.device,
        outside: Callable[[nn.Module], Sequence[nn.Module]] = lambda block: (),
    ) -> None:
        self._waiting = list(waiting)
        self._hooks = []
        if not self._waiting:
            return
        layout = self._waiting[0].layout
        if any(other.layout != layout for other in self._waiting):
            raise ValueError(
                "The model's blocks differ in their weights, so they cannot take turns on the GPU."
            )
        lane, size = Lane(device), layout_bytes(layout)
        self._buffers = torch.empty(BUFFERS, size, device=device, dtype=torch.uint8)
        self._views = [carve(buffer, layout) for buffer in self._buffers]
        lane.uses(self._buffers)
        self._prefetcher = Prefetcher(lane, min(BUFFERS, len(self._waiting)), self._fetch, self._following)
        for index, waiting_block in enumerate(self._waiting):
            for module in (waiting_block.block, *outside(waiting_block.block)):
                self._hooks.append(module.register_forward_pre_hook(self._bring(index)))
            self._hooks.append(waiting_block.block.register_forward_hook(self._leave))

    def close(self) -> None:
        """Give the GPU memory back; the blocks are ordinary ones on the CPU again."""
        for hook in self._hooks:
            hook.remove()
        for waiting_block in self._waiting:
            waiting_block.rest()
        self._hooks, self._waiting, self._views, self._buffers = [], [], [], None

    def __enter__(self) -> BlockOffload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bring(self, index: int):
        def before(module: nn.Module, args: tuple) -> None:
            self._waiting[index].use(self._views[self._prefetcher.take(index)])

        return before

    def _leave(self, *_: object) -> None:
        self._prefetcher.release()

    def _fetch(self, buffer: int, index: int) -> None:
        self._buffers[buffer].copy_(self._waiting[index].memory.bytes, non_blocking=True)

    def _following(self, index: int) -> int:
        return (index + 1) % len(self._waiting)
