"""Keys and values of a segment's clean latents, which all its steps share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gpu.pinned import Layout as PinnedLayout
from ..parts.attention.product import attention
from ..parts.kv.cache import CacheShape
from ..parts.kv.eight_bit import EightBit
from .config import LongCatConfig
from .layout import Layout


class CleanCache:
    """The clean latents of one segment as `CleanTokens`; empty where a video is made from text.

    Keys are kept rotated, since they keep their places in all steps. At 480p a continuation takes 6.1 GB in bfloat16.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._layers: list[tuple[Tensor, Tensor]] = []

    def store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Take a layer's rotated keys and its values [1, clean tokens, heads, head_dim], from the first layer on."""
        # Both are views of larger tensors, which would be kept as a whole.
        self._layers.append((k.clone(), v.clone(memory_format=torch.contiguous_format)))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `CleanTokens`."""
        if not self._layers:
            return attention(q, k, v)
        clean_k, clean_v = self._layers[layer]
        k, v = torch.cat((clean_k, k), 1), torch.cat((clean_v, v), 1)
        groups = self.layout.noisy_groups
        return torch.cat([attention(q[:, rows], k[:, seen], v[:, seen]) for rows, seen in groups], 1)

    def first_keys(self, layer: int) -> Tensor:
        """See `CleanTokens`."""
        return self._layers[layer][0][:, : self.layout.tokens]


class EightBitCache:
    """As `CleanCache`, but kept in 8 bits, and noisy latents attend in 8 bits as well (`kv.eight_bit`): 3.1 GB, and
    buffers for one layer's noisy tokens. There must be clean latents, whose keys and values have the common part that
    is taken away.

    Args:
        several: whether there are several speakers, whose places are found by the keys of the first clean latent.
    """

    def __init__(
        self,
        layout: Layout,
        config: LongCatConfig,
        device: torch.device,
        dtype: torch.dtype,
        several: bool = False,
    ) -> None:
        clean, noisy = layout.clean * layout.tokens, layout.noisy * layout.tokens
        self.layout, self._device, self._several = layout, device, several
        self._kept = EightBit(
            CacheShape(
                layers=config.depth,
                heads=config.num_heads,
                head_dim=config.head_dim,
                reference_tokens=layout.references * layout.tokens,
                condition_tokens=clean,
                ring_tokens=noisy,
                block_tokens=noisy,
            ),
            device,
            dtype,
        )
        self._layers: list[list[Tensor]] = []
        self._first: list[Tensor] = []
        self._noisy = self._empty(self._kept.ring_layout)

    def store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """See `CleanCache.store`."""
        self._layers.append(self._empty(self._kept.condition_layout))
        self._kept.set_condition(layer, self._layers[layer], k, v)
        if self._several:
            self._first.append(k[:, : self.layout.tokens].clone())

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `CleanTokens`."""
        self._kept.encode(layer, k, v, [part[0] for part in self._noisy])
        clean, parts = self._layers[layer], []
        for rows, seen in self.layout.noisy_groups:
            parts.append(
                self._kept.attend(layer, q[:, rows], k, v, clean, self._noisy, 1, reference=seen.start == 0)
            )
        return torch.cat(parts, 1)

    def first_keys(self, layer: int) -> Tensor:
        """See `CleanTokens`."""
        return self._first[layer]

    def _empty(self, parts: PinnedLayout) -> list[Tensor]:
        return [torch.zeros(shape, device=self._device, dtype=dtype) for shape, dtype in parts]
