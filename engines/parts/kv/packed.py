"""Caches in less GPU memory: in 8 bits, and with windows that wait in CPU memory.

The condition is kept once for all steps instead of once per step. A window in CPU memory is copied to the GPU before
it is needed, while the layers in front of it compute.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...gpu.lanes import Lane, Prefetcher
from ...gpu.pinned import Layout, PinnedMemory, carve, layout_bytes
from .cache import Cache, CacheFormat, CacheShape, StepCache
from .eight_bit import EightBit
from .formats import Decoded

Storage = Decoded | EightBit

SENDERS = 4
"""How many layers' newest blocks are on their way to CPU memory at most. They have buffers of their own: memory that is
allocated for each and used by another stream comes back late, and a small card then runs full of it."""


def make_storage(shape: CacheShape, device: torch.device, dtype: torch.dtype, format: CacheFormat) -> Storage:
    """What keeps keys and values in a format; ``dtype`` is the model's."""
    if format is CacheFormat.ATTENTION8:
        return EightBit(shape, device, dtype)
    return Decoded(shape, device, dtype, int8=format is CacheFormat.INT8)


class Shared:
    """What the caches of all steps share: the condition, how keys and values are kept, and what is on its way.

    Args:
        staged: whether some windows wait in CPU memory.
    """

    def __init__(self, shape: CacheShape, device: torch.device, storage: Storage, staged: bool) -> None:
        self.shape, self.device, self.storage = shape, device, storage
        self.condition = [self._on_device(storage.condition_layout) for _ in range(shape.layers)]
        self.reference_time: int | None = None
        self.caches: list[weakref.ref[PackedCache]] = []
        """Those that share it, in the order of their steps. Weak: nothing here may outlive its last use."""
        self.staging: list[list[Tensor]] = []
        if staged:
            self.stage()

    def stage(self) -> None:
        """Prepare for windows in CPU memory."""
        self.outgoing = Lane(self.device)
        self.senders = [
            _Sender(self.outgoing, self._on_device(_of_a_block(self.storage))) for _ in range(SENDERS)
        ]
        self.sent = 0
        self.staging = [self._on_device(self.storage.ring_layout) for _ in range(min(2, self.shape.layers))]
        self.prefetcher = _prefetcher(self.shape, self.device, self.staging, self.caches)

    def _on_device(self, layout: Layout) -> list[Tensor]:
        return carve(torch.zeros(layout_bytes(layout), device=self.device, dtype=torch.uint8), layout)

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        self.storage.set_condition(layer, self.condition[layer], k, v)

    def place_reference(self, time: int, keys: Tensor) -> None:
        for layer, (parts, key) in enumerate(zip(self.condition, keys, strict=True)):
            self.storage.place_reference(layer, parts, key)
        self.reference_time = time


def _of_a_block(storage: Storage) -> Layout:
    """Tensors of one layer's part of the rolling window that a block takes."""
    return [(shape[1:], dtype) for shape, dtype in storage.ring_layout]


class _Sender:
    """A buffer on the device for a block that is being copied to CPU memory."""

    def __init__(self, lane: Lane, buffer: list[Tensor]) -> None:
        self._lane, self.buffer, self._mark = lane, buffer, None
        lane.uses(*buffer)

    def send(self, block: Sequence[Tensor], targets: Sequence[Tensor]) -> Any:
        """Copy beside the computation; the mark says when it is there."""
        self._lane.computation_waits(self._mark)
        for part, value in zip(self.buffer, block, strict=True):
            part.copy_(value)
        with self._lane.working():
            for target, part in zip(targets, self.buffer, strict=True):
                target.copy_(part, non_blocking=True)
        self._mark = self._lane.mark()
        return self._mark


def _prefetcher(
    shape: CacheShape,
    device: torch.device,
    staging: list[list[Tensor]],
    caches: list[weakref.ref[PackedCache]],
) -> Prefetcher:
    """Brings (step, layer, block): what that layer's window in CPU memory has for a block."""
    incoming = Lane(device)
    for buffer in staging:
        incoming.uses(*buffer)

    def fetch(buffer: int, item: tuple[int, int, int]) -> None:
        step, layer, block = item
        cache = caches[step]()
        incoming.wait(cache.written[layer])
        for first, last in shape.kept(block):
            for source, target in zip(cache.ring[layer], staging[buffer], strict=True):
                target[first:last].copy_(source[first:last], non_blocking=True)

    def following(item: tuple[int, int, int]) -> tuple[int, int, int]:
        step, layer, block = item
        if layer + 1 < shape.layers:
            return step, layer + 1, block
        waiting = [number for number, cache in enumerate(caches) if cache().on_cpu]
        after = waiting[(waiting.index(step) + 1) % len(waiting)]
        # The next cache may be that of a step which this block has still to come to, or has passed.
        return after, 0, caches[after]().blocks + 1

    return Prefetcher(incoming, len(staging), fetch, following)


class PackedCache:
    """The `Cache` that takes less of the device's memory.

    Args:
        shared: what the caches of all steps share; this one becomes the next of them.
        on_cpu: keep the rolling window in CPU memory.
    """

    def __init__(self, shared: Shared, on_cpu: bool) -> None:
        self.shared, self.shape, self.on_cpu = shared, shared.shape, on_cpu
        self.step = len(shared.caches)
        self._allocate()
        self.written: list[Any] = [None] * self.shape.layers
        self.blocks = 0
        shared.caches.append(weakref.ref(self))

    def _allocate(self) -> None:
        layout = self.shared.storage.ring_layout
        size, layers = layout_bytes(layout), self.shape.layers
        if self.on_cpu:
            self._memory = PinnedMemory(layers * size)
            memory = self._memory.bytes
        else:
            memory = torch.empty(layers * size, device=self.shared.device, dtype=torch.uint8)
        self.ring = [carve(memory[i * size : (i + 1) * size], layout) for i in range(layers)]

    def move_to_cpu(self) -> None:
        """Keep the window in CPU memory from now on."""
        resident, self.on_cpu = self.ring, True
        self._allocate()
        for old, new in zip(resident, self.ring, strict=True):
            for source, target in zip(old, new, strict=True):
                target.copy_(source)

    @property
    def reference_time(self) -> int | None:
        """Where the reference stands; it is the same for all steps."""
        return self.shared.reference_time

    @reference_time.setter
    def reference_time(self, time: int) -> None:
        self.shared.reference_time = time

    @property
    def visible_tokens(self) -> int:
        return self.shape.visible(self.blocks)

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        if self.step == 0:  # all steps have the same
            self.shared.set_condition(layer, k, v)

    def place_reference(self, time: int, keys: Tensor) -> None:
        self.shared.place_reference(time, keys)

    def advance(self) -> None:
        self.blocks += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shared, slot = self.shared, self.shape.slot(self.blocks)
        ring = self.ring[layer]
        if self.on_cpu:
            ring = shared.staging[shared.prefetcher.take((self.step, layer, self.blocks))]
        kept = [part[slot] for part in ring]
        shared.storage.encode(layer, k, v, kept)
        if self.on_cpu:
            self._send(layer, slot, kept)
        out = shared.storage.attend(layer, q, k, v, shared.condition[layer], ring, self.blocks)
        if self.on_cpu:
            shared.prefetcher.release()
        return out

    def window(self) -> list[Tensor]:
        """The layers in turn, each with its storage's tensors; all that was on its way has arrived."""
        if self.on_cpu:
            self.shared.outgoing.finish()
        return [part for layer in self.ring for part in layer]

    def _send(self, layer: int, slot: int, block: list[Tensor]) -> None:
        """Copy a layer's newest block to CPU memory, beside the computation."""
        shared = self.shared
        sender = shared.senders[shared.sent % SENDERS]
        shared.sent += 1
        self.written[layer] = sender.send(block, [part[slot] for part in self.ring[layer]])


def make_caches(
    shape: CacheShape,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    format: CacheFormat = CacheFormat.MODEL,
    on_cpu: int = 0,
) -> list[Cache]:
    """The caches of ``steps`` denoising steps.

    Args:
        dtype: the model's.
        format: how keys and values are kept.
        on_cpu: how many of the steps have their window in CPU memory, the first ones.
    """
    if format is CacheFormat.MODEL and not on_cpu:
        return [StepCache(shape, device, dtype) for _ in range(steps)]
    shared = Shared(shape, device, make_storage(shape, device, dtype, format), staged=on_cpu > 0)
    return [PackedCache(shared, step < on_cpu) for step in range(steps)]


def caches_bytes(
    shape: CacheShape,
    steps: int,
    dtype: torch.dtype,
    format: CacheFormat = CacheFormat.MODEL,
    on_cpu: int = 0,
) -> tuple[int, int]:
    """Memory in bytes that `make_caches` takes on the device and in pinned CPU memory."""
    if format is CacheFormat.MODEL and not on_cpu:
        return steps * shape.bytes(dtype), 0
    storage = make_storage(shape, torch.device("meta"), dtype, format)
    ring, condition = layout_bytes(storage.ring_layout), layout_bytes(storage.condition_layout)
    extra = sum(tensor.nbytes for tensor in storage.extra)
    staging = min(2, shape.layers) * ring + SENDERS * layout_bytes(_of_a_block(storage)) if on_cpu else 0
    waiting = on_cpu * shape.layers * ring
    return extra + shape.layers * condition + staging + (steps - on_cpu) * shape.layers * ring, waiting


def move_to_cpu(caches: list[Cache], format: CacheFormat, count: int | None = None) -> list[PackedCache]:
    """Caches with the same contents of which ``count`` more, or all, have windows that wait in CPU memory; the list
    given is emptied one by one.

    Args:
        format: how the contents of each `StepCache` are kept from now on; a `PackedCache` keeps its format.
    """
    if isinstance(caches[0], PackedCache):
        for cache in [cache for cache in caches if not cache.on_cpu][:count]:
            cache.move_to_cpu()
        caches[0].shared.stage()
        return caches
    shape, device, dtype = caches[0].shape, caches[0].k[0].device, caches[0].k[0].dtype
    before, moved = shape.condition_tokens, []
    count = len(caches) if count is None else count
    while caches:
        old = caches.pop(0)
        k, v, blocks, time = old.k, old.v, old.blocks, old.reference_time
        if not moved:
            # The first one leaves the device as a whole, to make room for what all of them need there.
            k, v = ([part.cpu() for part in parts] for parts in (k, v))
            del old
            shared = Shared(shape, device, make_storage(shape, device, dtype, format), staged=True)
            for layer in range(shape.layers):
                shared.set_condition(layer, k[layer][:, :before].to(device), v[layer][:, :before].to(device))
            shared.reference_time = time
        new = PackedCache(shared, on_cpu=len(moved) < count)
        new.blocks = blocks
        for layer, parts in enumerate(new.ring):
            for slot in range(shape.slots):
                start = before + slot * shape.block_tokens
                block = [x[layer][:, start : start + shape.block_tokens].to(device) for x in (k, v)]
                kept = [torch.empty_like(part[slot], device=device) for part in parts]
                shared.storage.encode(layer, *block, kept)
                for part, value in zip(parts, kept, strict=True):
                    part[slot].copy_(value)
        moved.append(new)
    return moved
