"""Key-value caches of fixed size and address: one per denoising step.

A block attends to itself, to the blocks before it *at the same noise level*, and to the condition (reference and
motion tokens). That is why every step has a cache of its own, why finished blocks need no clean pass, and what
lets steps live on different GPUs (LiveAvatar, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from ..attention.product import attention


class CacheFormat(str, Enum):
    """The format in which keys and values are kept."""

    MODEL = "model"
    """The model's dtype."""
    INT8 = "int8"
    """8 bits, decoded to the model's dtype before a block attends to them (`formats.Decoded`)."""
    ATTENTION8 = "8-bit attention"
    """8 bits, and a block attends to them as they are (`eight_bit.EightBit`)."""


@dataclass(frozen=True)
class CacheShape:
    """Sizes of one step's cache.

    Attributes:
        reference_tokens: tokens of the reference, the first of the condition.
        condition_tokens: all tokens of the condition.
        ring_tokens: tokens of the rolling window, a whole number of blocks.
        block_tokens: tokens of one block.
    """

    layers: int
    heads: int
    head_dim: int
    reference_tokens: int
    condition_tokens: int
    ring_tokens: int
    block_tokens: int

    def bytes(self, dtype: torch.dtype) -> int:
        """Memory of one step's cache."""
        tokens = self.condition_tokens + self.ring_tokens
        return 2 * self.layers * tokens * self.heads * self.head_dim * dtype.itemsize

    def visible(self, block: int) -> int:
        """Tokens that the ``block``-th block (from 1) sees, itself included."""
        return self.condition_tokens + min(block * self.block_tokens, self.ring_tokens)

    @property
    def slots(self) -> int:
        """Blocks in the rolling window."""
        return self.ring_tokens // self.block_tokens

    def slot(self, block: int) -> int:
        """Which slot of the ring the ``block``-th block takes."""
        return (block - 1) % self.slots

    def kept(self, block: int) -> list[tuple[int, int]]:
        """Ranges of slots, first and end, that the ``block``-th block sees of the blocks before it."""
        slot, filled = self.slot(block), min(block, self.slots)
        return [(first, last) for first, last in ((0, slot), (slot + 1, filled)) if first < last]


class Cache(Protocol):
    """Keys and values of one denoising step, as a sampler uses them.

    Attributes:
        shape: its sizes.
        blocks: how many blocks were begun; the last of them is written now, or was the last to be written.
        reference_time: temporal position for which the reference keys are rotated.
        on_cpu: whether the rolling window waits in CPU memory.
    """

    shape: CacheShape
    blocks: int
    reference_time: int | None
    on_cpu: bool

    @property
    def visible_tokens(self) -> int:
        """Tokens that a block written now can see, itself included."""

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store a layer's rotated condition keys and its values [1, condition tokens, heads, head_dim]."""

    def place_reference(self, time: int, keys: Tensor) -> None:
        """Replace the reference keys of all layers by ``keys`` [layers, reference tokens, heads, head_dim], which are
        rotated to temporal position ``time``."""

    def advance(self) -> None:
        """Open the slot of the next block; call once per block, before its forward pass."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store a block's rotated keys and values in the open slot and attend to everything visible.

        All tensors are [1, block tokens, heads, head_dim].
        """

    def window(self) -> list[Tensor]:
        """Views [slots, ...] of the rolling window of all layers, in the format in which it is kept."""


class StepCache:
    """The `Cache` in the model's dtype on the device, laid out ``[condition | ring]`` per layer.

    The visible part is always one contiguous slice: the condition, then as much of the ring as is filled.
    Keys are stored rotated. The ring keeps each key at its absolute position; the reference is turned anew when
    it moves along with the video (`place_reference`).
    """

    on_cpu = False

    def __init__(self, shape: CacheShape, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape
        size = (shape.layers, shape.condition_tokens + shape.ring_tokens, shape.heads, shape.head_dim)
        self._keys = torch.zeros(size, device=device, dtype=dtype)
        self.k = self._keys.split(1)
        self.v = torch.zeros(size, device=device, dtype=dtype).split(1)
        self.blocks = 0
        self.reference_time: int | None = None

    @property
    def visible_tokens(self) -> int:
        return self.shape.visible(self.blocks)

    def set_condition(self, layer: int, k: Tensor, v: Tensor) -> None:
        self.k[layer][:, : self.shape.condition_tokens] = k
        self.v[layer][:, : self.shape.condition_tokens] = v

    def place_reference(self, time: int, keys: Tensor) -> None:
        self._keys[:, : keys.shape[1]] = keys
        self.reference_time = time

    def advance(self) -> None:
        self.blocks += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        start = self.shape.condition_tokens + self.shape.slot(self.blocks) * self.shape.block_tokens
        self.k[layer][:, start : start + k.shape[1]] = k
        self.v[layer][:, start : start + v.shape[1]] = v
        visible = self.visible_tokens
        return attention(q, self.k[layer][:, :visible], self.v[layer][:, :visible])

    def window(self) -> list[Tensor]:
        """Keys and values of the first layer, of the second layer, ..."""
        before, slots = self.shape.condition_tokens, (self.shape.slots, self.shape.block_tokens)
        layers = zip(self.k, self.v, strict=True)
        return [part[0, before:].unflatten(0, slots) for layer in layers for part in layer]
