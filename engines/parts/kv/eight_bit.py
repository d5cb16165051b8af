"""Attention over keys and values in 8 bits, as they are kept.

Keys are integers, values float8, each tile of 128 tokens and head with one scale. In front of that a vector per head
is taken away, the mean of the first condition: from all keys, which changes no softmax, and from all values, where it
is added to the result. So the common part of keys and values, which real models have, costs no precision. Queries are
rounded to 8 bits per token, attention's weights to float8. (SageAttention, arXiv 2410.02367 and 2411.10958, has the
ideas: integers for keys and queries, their smoothing, and sums of few products in the matrix unit.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...gpu.pinned import Layout
from ...gpu.row_kernels import FLOAT8, LARGEST
from ..attention import eight_bit as kernels
from ..attention.eight_bit import TILE, tiles
from ..attention.product import attention
from .cache import CacheShape
from .formats import LEVELS

SMALLEST = 1e-12
KEYS, VALUES = 0, 1


def _key_order() -> Tensor:
    """Which token of 32 stands where among a tile's values: as the matrix unit's results lie in its registers, so
    that attention's weights meet the values without being moved."""
    token = torch.arange(32)
    bit = [(token >> i) & 1 for i in range(5)]
    place = bit[0] + (bit[3] << 1) + (bit[1] << 2) + (bit[2] << 3) + (bit[4] << 4)
    return place.argsort()


ORDER = _key_order()


class EightBit:
    """Keeps keys and values for `attend`; takes the place of `formats.Decoded`.

    A piece of tokens (the reference, the motion history, a block) begins at a tile. Padding behind it is zero after
    the means were taken away; `attend` takes its share out of the softmax again.
    """

    def __init__(self, shape: CacheShape, device: torch.device, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._kernels = kernels.available(device, shape.head_dim)
        self.means = torch.zeros(shape.layers, 2, shape.heads, shape.head_dim, device=device)
        """The means of each layer's keys and values, float32 [layers, 2, heads, head_dim]."""
        self._known = [False] * shape.layers
        self._pieces = (shape.reference_tokens, shape.condition_tokens - shape.reference_tokens)

    @property
    def extra(self) -> list[Tensor]:
        """Memory besides condition and rings."""
        return [self.means]

    @property
    def condition_layout(self) -> Layout:
        """Tensors of one layer's condition: keys, their scales, values, their scales."""
        return self._layout(sum(map(tiles, self._pieces)))

    @property
    def ring_layout(self) -> Layout:
        """Tensors of one layer's rolling window, each [slots, ...]."""
        layout = self._layout(tiles(self.shape.block_tokens))
        return [((self.shape.slots, *shape), dtype) for shape, dtype in layout]

    def _layout(self, count: int) -> Layout:
        heads, width = self.shape.heads, self.shape.head_dim
        return [
            ((heads, count * TILE, width), torch.int8),
            ((heads, count), torch.float32),
            ((heads, width, count * TILE), FLOAT8),
            ((heads, count), torch.float32),
        ]

    def set_condition(self, layer: int, condition: list[Tensor], k: Tensor, v: Tensor) -> None:
        """Keep a layer's rotated condition keys and its values [1, condition tokens, heads, head_dim]."""
        if not self._known[layer]:
            self.means[layer, KEYS], self.means[layer, VALUES] = k[0].float().mean(0), v[0].float().mean(0)
            self._known[layer] = True
        first, _ = self._pieces
        self.place_reference(layer, condition, k[0, :first])
        self._write(layer, KEYS, k[0, first:], condition, tiles(first))
        self._write(layer, VALUES, v[0, :first], condition)
        self._write(layer, VALUES, v[0, first:], condition, tiles(first))

    def place_reference(self, layer: int, condition: list[Tensor], keys: Tensor) -> None:
        """Replace the keys of the condition's first tokens by ``keys`` [tokens, heads, head_dim]."""
        self._write(layer, KEYS, keys, condition)

    def encode(self, layer: int, k: Tensor, v: Tensor, out: list[Tensor]) -> None:
        """Write a block's keys and values [1, tokens, heads, head_dim] as they are kept."""
        self._write(layer, KEYS, k[0], out)
        self._write(layer, VALUES, v[0], out)

    def _write(self, layer: int, kind: int, x: Tensor, out: list[Tensor], tile: int = 0) -> None:
        """Keep keys or values [tokens, heads, head_dim] from a tile on."""
        if len(x) == 0:
            return
        levels, scales = out[2 * kind : 2 * kind + 2]
        mean = self.means[layer, kind]
        if self._kernels:
            kernels.write(x, mean, levels, scales, tile)
            return
        tiled, scale = self._tiled(x, mean, LARGEST if kind == VALUES else LEVELS)
        last = tile + scale.shape[1]
        scales[:, tile:last] = scale
        if kind == VALUES:
            ordered = tiled.unflatten(2, (-1, 32))[:, :, :, ORDER.to(x.device)].flatten(1, 3)
            levels[:, :, tile * TILE : last * TILE] = ordered.transpose(1, 2).to(FLOAT8)
        else:
            levels[:, tile * TILE : last * TILE] = tiled.round().to(torch.int8).flatten(1, 2)

    @staticmethod
    def _tiled(x: Tensor, mean: Tensor, largest: float) -> tuple[Tensor, Tensor]:
        """[tokens, heads, head_dim] without its mean -> [heads, tiles, TILE, head_dim] in steps of [heads, tiles]."""
        x = torch.nn.functional.pad((x.float() - mean).transpose(0, 1), (0, 0, 0, -x.shape[0] % TILE))
        x = x.unflatten(1, (-1, TILE))
        scale = (x.abs().amax((2, 3)) / largest).clamp_(min=SMALLEST)
        return x / scale[..., None, None], scale

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        condition: list[Tensor],
        ring: list[Tensor],
        block: int,
        reference: bool = True,
    ) -> Tensor:
        """What the ``block``-th block (from 1) sees: the condition, with or without its ``reference``, and the ring
        with its own ``k`` and ``v``."""
        slots = min(block, self.shape.slots)
        first = tiles(self._pieces[0])
        pieces = [(0, self._pieces[0]), (first, self._pieces[1])][0 if reference else 1 :]
        if self._kernels:
            padding = slots * (-self.shape.block_tokens % TILE) + sum(-tokens % TILE for _, tokens in pieces)
            if not reference:
                condition = _behind(condition, first)
            return kernels.attend(q, condition, ring, slots, padding, self.means[layer, VALUES])
        pieces = [(condition, *piece) for piece in pieces]
        pieces += [([part[slot] for part in ring], 0, self.shape.block_tokens) for slot in range(slots)]
        read = [self._read(layer, *piece) for piece in pieces]
        return attention(q, *(torch.cat(parts)[None] for parts in zip(*read, strict=True)))

    def _read(self, layer: int, parts: list[Tensor], tile: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values [tokens, heads, head_dim] of a piece in the model's dtype."""
        keys, key_scale, values, value_scale = parts
        ordered = values.float().transpose(1, 2).unflatten(1, (-1, 32))
        back = ordered[:, :, ORDER.argsort().to(values.device)].flatten(1, 2)
        read = []
        for x, scale, kind in ((keys.float(), key_scale, KEYS), (back, value_scale, VALUES)):
            exact = (x.unflatten(1, (-1, TILE)) * scale[..., None, None]).flatten(1, 2).transpose(0, 1)
            exact = exact[tile * TILE : tile * TILE + tokens] + self.means[layer, kind]
            read.append(exact.to(self.dtype))
        return read[0], read[1]


def _behind(parts: list[Tensor], tile: int) -> list[Tensor]:
    """Keys, values and scales from a tile on."""
    keys, key_scale, values, value_scale = parts
    return [
        keys[:, tile * TILE :].contiguous(),
        key_scale[:, tile:].contiguous(),
        values[:, :, tile * TILE :].contiguous(),
        value_scale[:, tile:].contiguous(),
    ]
