"""Keys and values of a segment's clean latents, which all its steps share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..parts.attention.product import attention
from .layout import Layout


class CleanCache:
    """The clean latents of one segment as `CleanTokens`; empty where a video is made from text.

    Keys are kept rotated, since they keep their places in all steps. At 480p a continuation takes 6.1 GB in bfloat16.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._layers: list[tuple[Tensor, Tensor]] = []

    def store(self, layer: int, k: Tensor, v: Tensor, plain: Tensor) -> None:
        """Take a layer's rotated keys and its values [1, clean tokens, heads, head_dim], from the first layer on."""
        # The values are a view of the fused projection, which would be kept as a whole.
        self._layers.append((k, v.contiguous()))

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
