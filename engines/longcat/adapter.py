"""Low-rank additions that are computed beside a layer: for weights that nothing can be merged into."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Adapted(nn.Module):
    """A linear layer with an addition ``up @ down``, computed in the input's dtype.

    Args:
        layer: any linear layer.
        down: [rank, in].
        up: [out, rank], with the strength in it.
    """

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("down", down)
        self.register_buffer("up", up)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
