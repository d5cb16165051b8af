"""How caches keep keys and values in less memory, and how a block attends to them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...gpu.pinned import Layout
from ...gpu.triton_support import available
from ..attention.product import attention
from . import int8_kernels as kernels
from .cache import CacheShape

LEVELS = 127


class Decoded:
    """Kept in the model's ``dtype``, or (``int8``) in 8 bits with a scale per token and head; put together in the
    model's dtype in one contiguous workspace, which all layers share, before a block attends to them.

    The 8 bits are integers: of normal values they lose 0.65 %, float8 2.6 %; of values with rare large channels both
    lose about 2 %. A block's own keys and values are not rounded.
    """

    def __init__(self, shape: CacheShape, device: torch.device, dtype: torch.dtype, int8: bool) -> None:
        self.shape, self.dtype, self.int8 = shape, dtype, int8
        self._kernels = int8 and available(device)
        size = (2, 1, shape.condition_tokens + shape.ring_tokens, shape.heads, shape.head_dim)
        self.workspace = torch.zeros(size, device=device, dtype=dtype)

    @property
    def extra(self) -> list[Tensor]:
        """Memory besides condition and rings."""
        return [self.workspace]

    @property
    def condition_layout(self) -> Layout:
        """Tensors of one layer's condition."""
        return self._layout(self.shape.condition_tokens)

    @property
    def ring_layout(self) -> Layout:
        """Tensors of one layer's rolling window, each [slots, ...]."""
        slots, block = self.shape.slots, self.shape.block_tokens
        return [((slots, block, *rest), dtype) for (_, *rest), dtype in self._layout(block)]

    def _layout(self, tokens: int) -> Layout:
        heads, width = self.shape.heads, self.shape.head_dim
        if not self.int8:
            return [((tokens, heads, width), self.dtype)] * 2
        return [((tokens, heads, width), torch.int8), ((tokens, heads, 1), self.dtype)] * 2

    def set_condition(self, layer: int, condition: list[Tensor], k: Tensor, v: Tensor) -> None:
        """Keep a layer's rotated condition keys and its values [1, condition tokens, heads, head_dim]."""
        self.encode(layer, k, v, condition)

    def place_reference(self, layer: int, condition: list[Tensor], keys: Tensor) -> None:
        """Replace the keys of the condition's first tokens by ``keys`` [tokens, heads, head_dim]."""
        half = len(condition) // 2
        for part, value in zip(condition[:half], self._encode(keys), strict=True):
            part[: keys.shape[0]] = value

    def encode(self, layer: int, k: Tensor, v: Tensor, out: list[Tensor]) -> None:
        """Write keys and values [1, tokens, heads, head_dim] as they are kept."""
        if self._kernels:
            kernels.encode(k, v, out)
            return
        for part, value in zip(out, self._encode(k[0]) + self._encode(v[0]), strict=True):
            part.copy_(value)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        condition: list[Tensor],
        ring: list[Tensor],
        block: int,
    ) -> Tensor:
        """What the ``block``-th block (from 1) sees: the condition, the kept part of the ring, and ``k`` and ``v``."""
        keys, values = self.workspace[:, :, : self.shape.visible(block)]
        self.put_together(condition, ring, k, v, block, keys, values)
        return attention(q, keys, values)

    def put_together(
        self,
        condition: list[Tensor],
        ring: list[Tensor],
        k: Tensor,
        v: Tensor,
        block: int,
        keys: Tensor,
        values: Tensor,
    ) -> None:
        """Make ``keys`` and ``values`` [1, visible tokens, heads, head_dim] what `attend` looks at."""
        before, size, slot = self.shape.condition_tokens, self.shape.block_tokens, self.shape.slot(block)
        if self._kernels:
            kernels.put_together(condition, ring, k, v, slot * size, keys, values)
            return
        pieces = [(condition, 0)]
        for first, last in self.shape.kept(block):
            pieces.append(([part[first:last].flatten(0, 1) for part in ring], before + first * size))
        for parts, place in pieces:
            half, end = len(parts) // 2, place + parts[0].shape[0]
            self._decode(parts[:half], keys[0, place:end])
            self._decode(parts[half:], values[0, place:end])
        start = before + slot * size
        keys[:, start : start + size] = k
        values[:, start : start + size] = v

    def _encode(self, x: Tensor) -> list[Tensor]:
        if not self.int8:
            return [x]
        exact = x.float()
        scale = (exact.abs().amax(-1, keepdim=True) / LEVELS).clamp_(min=1e-12).to(self.dtype)
        return [(exact / scale.float()).round_().clamp_(-LEVELS, LEVELS).to(torch.int8), scale]

    def _decode(self, parts: list[Tensor], out: Tensor) -> None:
        if self.int8:
            torch.mul(*parts, out=out)
        else:
            out.copy_(parts[0])
