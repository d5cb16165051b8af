"""Caches in less GPU memory: in 8 bits, and with windows that wait in CPU memory.

The condition is kept once for all steps instead of once per step. For each attention the visible keys and values are
put together in one contiguous room that all layers share. A window in CPU memory was copied to the GPU before, while
the layers in front of it computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..gpu.triton_support import available
from . import kv_kernels as kernels
from .attention import attention
from .kv_cache import CacheShape, StepCache
from .memory import Layout, PinnedMemory, carve, layout_bytes
from .prefetch import Lane, Prefetcher

LEVELS = 127


@dataclass(frozen=True)
class Format:
    """How keys and values are stored: in the model's ``dtype``, or (``int8``) in 8 bits with a scale per token and
    head.

    The 8 bits are integers: of normal values they lose 0.65 %, float8 2.6 %; of values with rare large channels both
    lose about 2 %.
    """

    dtype: torch.dtype
    int8: bool

    def layout(self, tokens: int, shape: CacheShape) -> Layout:
        """Tensors of one layer: keys, then values; with 8 bits each is followed by its scales."""
        size = (1, tokens, shape.heads)
        if not self.int8:
            return [((*size, shape.head_dim), self.dtype)] * 2
        return [((*size, shape.head_dim), torch.int8), ((*size, 1), self.dtype)] * 2

    def encode(self, x: Tensor) -> list[Tensor]:
        if not self.int8:
            return [x.contiguous()]
        exact = x.float()
        scale = (exact.abs().amax(-1, keepdim=True) / LEVELS).clamp_(min=1e-12).to(self.dtype)
        return [(exact / scale.float()).round_().clamp_(-LEVELS, LEVELS).to(torch.int8), scale]

    def decode(self, parts: list[Tensor], out: Tensor) -> None:
        if self.int8:
            torch.mul(*parts, out=out)
        else:
            out.copy_(parts[0])


class Room:
    """What the caches of all steps share: the condition, and where keys and values come together for attention.

    Args:
        staged: whether some windows wait in CPU memory.
    """

    def __init__(self, shape: CacheShape, device: torch.device, form: Format, staged: bool) -> None:
        self.shape, self.device, self.format = shape, device, form
        self._kernels = form.int8 and available(device)
        size = (2, 1, shape.condition_tokens + shape.ring_tokens, shape.heads, shape.head_dim)
        self.k, self.v = torch.zeros(size, device=device, dtype=form.dtype)
        self.condition = [self._on_device(shape.condition_tokens) for _ in range(shape.layers)]
        self.reference_time: int | None = None
        self.caches: list[PackedCache] = []
        """Those that share the room, in the order of their steps."""
        self.staging: list[list[Tensor]] = []
        if staged:
            self.stage()

    def stage(self) -> None:
        """Prepare for windows in CPU memory."""
        self.incoming, self.outgoing = Lane(self.device), Lane(self.device)
        self.staging = [self._on_device(self.shape.ring_tokens) for _ in range(min(2, self.shape.layers))]
        for buffer in self.staging:
            self.incoming.uses(*buffer)
        self.prefetcher = Prefetcher(self.incoming, len(self.staging), self._fetch, self._following)

    def _on_device(self, tokens: int) -> list[Tensor]:
        layout = self.format.layout(tokens, self.shape)
        return carve(torch.zeros(layout_bytes(layout), device=self.device, dtype=torch.uint8), layout)

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        for part, value in zip(self.condition[layer], self.encode(k, v), strict=True):
            part.copy_(value)

    def place_reference(self, time: int, keys: Tensor) -> None:
        for parts, key in zip(self.condition, keys, strict=True):
            for part, value in zip(parts, self.format.encode(key[None]), strict=False):
                part[:, : key.shape[0]] = value
        self.reference_time = time

    def encode(self, k: Tensor, v: Tensor) -> list[Tensor]:
        """Keys and values as they are stored."""
        if self._kernels:
            return kernels.encode(k, v)
        return self.format.encode(k) + self.format.encode(v)

    def put_together(
        self, layer: int, ring: list[Tensor], k: Tensor, v: Tensor, block: int, keys: Tensor, values: Tensor
    ) -> None:
        """Make ``keys`` and ``values`` what the ``block``-th block sees: the condition, the kept part of the ring, and
        ``k`` and ``v`` in their slot."""
        condition, start = self.condition[layer], self.shape.slot(block)
        if self._kernels:
            kernels.put_together(condition, ring, k, v, start, keys, values)
            return
        before = self.shape.condition_tokens
        pieces = [(condition, 0, before, 0)]
        pieces += [(ring, first, last, before + first) for first, last in self.shape.kept(block)]
        for parts, first, last, place in pieces:
            cut = [part[:, first:last] for part in parts]
            half, end = len(cut) // 2, place + last - first
            self.format.decode(cut[:half], keys[:, place:end])
            self.format.decode(cut[half:], values[:, place:end])
        keys[:, before + start : before + start + k.shape[1]] = k
        values[:, before + start : before + start + v.shape[1]] = v

    def _fetch(self, buffer: int, item: tuple[PackedCache, int, int]) -> None:
        cache, layer, block = item
        self.incoming.wait(cache.written[layer])
        for first, last in self.shape.kept(block):
            for source, target in zip(cache.ring[layer], self.staging[buffer], strict=True):
                target[:, first:last].copy_(source[:, first:last], non_blocking=True)

    def _following(self, item: tuple[PackedCache, int, int]) -> tuple[PackedCache, int, int]:
        cache, layer, _ = item
        if layer + 1 < self.shape.layers:
            return cache, layer + 1, item[2]
        waiting = [other for other in self.caches if other.on_cpu]
        after = waiting[(waiting.index(cache) + 1) % len(waiting)]
        # The next cache may be that of a step which this block has still to come to, or has passed.
        return after, 0, after.blocks + 1


class PackedCache:
    """`StepCache` for less memory; the same calls.

    Args:
        room: shared by the caches of all steps.
        on_cpu: keep the rolling window in CPU memory.
    """

    def __init__(self, room: Room, on_cpu: bool) -> None:
        self.room, self.shape, self.on_cpu = room, room.shape, on_cpu
        self._allocate()
        self.written: list[Any] = [None] * self.shape.layers
        self.blocks = 0
        room.caches.append(self)

    def _allocate(self) -> None:
        layout = self.room.format.layout(self.shape.ring_tokens, self.shape)
        size, layers = layout_bytes(layout), self.shape.layers
        if self.on_cpu:
            self._memory = PinnedMemory(layers * size)
            memory = self._memory.bytes
        else:
            memory = torch.empty(layers * size, device=self.room.device, dtype=torch.uint8)
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
        return self.room.reference_time

    @reference_time.setter
    def reference_time(self, time: int) -> None:
        self.room.reference_time = time

    @property
    def visible_tokens(self) -> int:
        return self.shape.visible(self.blocks)

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        if self is self.room.caches[0]:  # all steps have the same
            self.room.set_condition(layer, k, v)

    def place_reference(self, time: int, keys: Tensor) -> None:
        self.room.place_reference(time, keys)

    def advance(self) -> None:
        self.blocks += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        room, shape = self.room, self.shape
        stored = self.ring[layer]
        if self.on_cpu:
            stored = room.staging[room.prefetcher.take((self, layer, self.blocks))]
        visible, start = self.visible_tokens, shape.slot(self.blocks)
        keys, values = room.k[:, :visible], room.v[:, :visible]
        room.put_together(layer, stored, k, v, self.blocks, keys, values)
        self._store(layer, start, start + shape.block_tokens, room.encode(k, v))
        return attention(q, keys, values)

    def window(self) -> list[Tensor]:
        """As `StepCache.window` and in its order, in the format of storage."""
        if self.on_cpu:
            self.room.outgoing.finish()
        return [part for layer in self.ring for part in layer]

    def _store(self, layer: int, start: int, end: int, encoded: list[Tensor]) -> None:
        pairs = zip(self.ring[layer], encoded, strict=True)
        if not self.on_cpu:
            for part, value in pairs:
                part[:, start:end] = value
            return
        lane = self.room.outgoing
        with lane.copying():
            for part, value in pairs:
                part[:, start:end].copy_(value, non_blocking=True)
        lane.uses(*encoded)
        self.written[layer] = lane.mark()
        self.room.prefetcher.release()


def make_caches(
    shape: CacheShape,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    int8: bool = False,
    on_cpu: int = 0,
) -> list[StepCache] | list[PackedCache]:
    """The caches of all steps.

    Args:
        dtype: the model's.
        int8: store keys and values in 8 bits.
        on_cpu: of how many steps the window waits in CPU memory.
    """
    if not int8 and not on_cpu:
        return [StepCache(shape, device, dtype) for _ in range(steps)]
    room = Room(shape, device, Format(dtype, int8), staged=on_cpu > 0)
    return [PackedCache(room, step < on_cpu) for step in range(steps)]


def caches_bytes(
    shape: CacheShape, steps: int, dtype: torch.dtype, int8: bool = False, on_cpu: int = 0
) -> tuple[int, int]:
    """Memory that `make_caches` takes on the device and in pinned CPU memory."""
    if not int8 and not on_cpu:
        return steps * shape.bytes(dtype), 0
    form = Format(dtype, int8)
    ring = layout_bytes(form.layout(shape.ring_tokens, shape))
    condition = layout_bytes(form.layout(shape.condition_tokens, shape))
    room = shape.bytes(dtype) // shape.layers
    staging = min(2, shape.layers) * ring if on_cpu else 0
    waiting = on_cpu * shape.layers * ring
    return room + shape.layers * condition + staging + (steps - on_cpu) * shape.layers * ring, waiting


def move_to_cpu(caches: list[StepCache] | list[PackedCache], int8: bool) -> list[PackedCache]:
    """Caches with the same contents whose windows wait in CPU memory; those given are used up, one by one.

    Args:
        int8: store plain caches in 8 bits; packed ones keep their format.
    """
    if isinstance(caches[0], PackedCache):
        for cache in caches:
            if not cache.on_cpu:
                cache.move_to_cpu()
        caches[0].room.stage()
        return caches
    shape, device, dtype = caches[0].shape, caches[0].k[0].device, caches[0].k[0].dtype
    before, moved = shape.condition_tokens, []
    while caches:
        old = caches.pop(0)
        k, v, blocks, time = old.k, old.v, old.blocks, old.reference_time
        if not moved:
            # The first one leaves the device as a whole, to make room for what all of them need there.
            k, v = ([part.cpu() for part in parts] for parts in (k, v))
            del old
            room = Room(shape, device, Format(dtype, int8), staged=True)
            for layer in range(shape.layers):
                room.set_condition(layer, k[layer][:, :before].to(device), v[layer][:, :before].to(device))
            room.reference_time = time
        new = PackedCache(room, on_cpu=True)
        new.blocks = blocks
        for layer, parts in enumerate(new.ring):
            encoded = room.encode(k[layer][:, before:].to(device), v[layer][:, before:].to(device))
            for part, value in zip(parts, encoded, strict=True):
                part.copy_(value)
        moved.append(new)
    return moved
