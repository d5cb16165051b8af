"""3x3 convolutions of a map that was enlarged by nearest neighbours, computed from the small map.

In a cell of s x s equal pixels, only the first row sees the cell above and only the last one the cell below, and so do
the columns. So there are at most nine kinds of pixels, each a convolution of the small map with sums of the weights:
2x2 for corners, 2x1 and 1x2 for edges, 1x1 inside. At s = 2 there are corners only (4/9 of the products), at s = 4
25 of 144 products are left. Borders agree too, because what lies outside is zero in both sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..gpu.upsampling import small_weight
from .layers import set_weights


class UpsampledConv(nn.Module):
    """Several convolutions of one enlarged map, side by side, each with a ReLU behind it."""

    def __init__(self, convs: Sequence[nn.Conv2d], scale: int):
        """``convs`` are 3x3, with padding and bias; ``scale`` is 1, 2 or more."""
        super().__init__()
        self.scale = scale
        weight = torch.cat([conv.weight.float() for conv in convs])
        bias = torch.cat([conv.bias.float() for conv in convs])
        self.outputs, dtype = len(bias), convs[0].weight.dtype
        if scale == 1:
            self.whole = _conv(weight, bias, dtype)
            return
        self.corners = _conv(small_weight(weight), bias, dtype)
        if scale > 2:
            rows, columns = weight.sum(3, keepdim=True), weight.sum(2, keepdim=True)
            self.rows = _conv(torch.cat(_ends(rows, 2)), bias, dtype)
            self.columns = _conv(torch.cat(_ends(columns, 3)), bias, dtype)
            self.inside = _conv(weight.sum((2, 3), keepdim=True), bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to ``[B, N, scale * h, scale * w]``."""
        if self.scale == 1:
            return self.whole(x).relu_()
        (batch, _, height, width), last = x.shape, self.scale - 1
        size = (batch, self.outputs, self.scale * height, self.scale * width)
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        cells = out.unflatten(3, (width, self.scale)).unflatten(2, (height, self.scale))  # [B, N, h, s, w, s]
        corners = self.corners(x).relu_().unflatten(1, (2, 2, self.outputs))
        for i in range(2):
            for j in range(2):
                cells[:, :, :, i * last, :, j * last] = corners[:, i, j, :, i : i + height, j : j + width]
        if self.scale > 2:
            rows = self.rows(x).relu_().unflatten(1, (2, self.outputs))
            columns = self.columns(x).relu_().unflatten(1, (2, self.outputs))
            for i in range(2):
                cells[:, :, :, i * last, :, 1:last] = rows[:, i, :, i : i + height, :, None]
                cells[:, :, :, 1:last, :, i * last] = columns[:, i, :, :, None, i : i + width]
            cells[:, :, :, 1:last, :, 1:last] = self.inside(x).relu_()[:, :, :, None, :, None]
        return out


def _ends(weight: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    """The weights of the first and of the last pixel of a cell, from three along ``dimension``."""
    before, here, after = weight.split(1, dimension)
    return torch.cat([before, here + after], dimension), torch.cat([before + here, after], dimension)


def _conv(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Conv2d:
    """A convolution that reads one more pixel on both sides of a dimension in which its kernel is longer than one."""
    outputs, inputs, *kernel = weight.shape
    padding = [int(side > 1) for side in kernel]
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, device="meta")
    return set_weights(layer, weight, bias.repeat(outputs // len(bias)), dtype)
