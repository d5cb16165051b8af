"""Convolutions in the forms that suit GPUs: of maps that were enlarged by nearest neighbours, and of volumes.

Enlarged maps: 3x3 convolutions are computed from the small map. In a cell of s x s equal pixels, only the first row
sees the cell above and only the last one the cell below, and so do the columns. So there are at most nine kinds of
pixels, each a convolution of the small map with sums of the weights: 2x2 for corners, 2x1 and 1x2 for edges, 1x1 in
the middle. At s = 2 there are corners only (4/9 of the products), at s = 4 25 of 144 products are left. Borders agree
too, because what lies outside is zero in both sizes.

Volumes ``[B, C, d, h, w]``: kernels with few outputs are taken apart, channels are filled up to whole groups, and
layouts stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gpu.upsampling import small_weight
from .layers import set_weights

WHOLE_CHANNELS = 8
"""Tensor cores read channels in groups of so many numbers; other counts take slower ways."""


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


class SliceConv(nn.Module):
    """A convolution of volumes that is computed picture by picture: every depth of the kernel gives outputs of its own,
    which are then added where they belong.

    A kernel with few outputs, as that of the mask, uses matrix units badly; here they are ``k`` times as many.
    """

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        _, inputs, self.depth, *kernel = conv.weight.shape
        weight = conv.weight.transpose(1, 2).transpose(0, 1).flatten(0, 1)
        weight = _longer(weight, 0, missing(len(weight)))
        self.slices = nn.Conv2d(
            inputs, len(weight), kernel, padding=conv.padding[1:], bias=False, device="meta"
        )
        set_weights(self.slices, weight, None, conv.weight.dtype)
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, d, h, w]`` to float32 ``[B, N, d, h, w]``."""
        batch, depth = x.shape[0], x.shape[2]
        parts = self.slices(x.transpose(1, 2).flatten(0, 1))
        parts = parts[:, : self.depth * len(self.bias)]
        parts = parts.unflatten(1, (self.depth, -1)).unflatten(0, (batch, depth))  # [B, d, k, N, h, w]
        # Channels last.
        total = self.bias.float().repeat(batch, depth, *x.shape[3:], 1).permute(0, 1, 4, 2, 3)
        for k in range(self.depth):
            shift = k - self.depth // 2
            here, there = (
                slice(max(0, -shift), depth - max(0, shift)),
                slice(max(0, shift), depth + min(0, shift)),
            )
            total[:, here] += parts[:, there, k]
        return total.transpose(1, 2)


class FlatConv(nn.Conv2d):
    """A convolution of volumes ``[B, C, d, h, w]`` to one picture ``[B, 1, h, w]``, which reads all depths at once."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1, 2))


class TapConv(nn.Module):
    """A `FlatConv` that is computed tap by tap: each of the kernel's places gives a picture of its own, by one product
    of matrices, and they are added where they belong.

    A convolution with one output leaves matrix units all but empty; here there are as many as the kernel has places.
    """

    def __init__(self, conv: FlatConv, depth: int):
        super().__init__()
        self.side = conv.kernel_size[0]
        weight = conv.weight.reshape(-1, depth, self.side**2).transpose(0, 1)  # [d, C, places]
        weight = _longer(weight, 2, missing(self.side**2)).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, d, h, w]`` to float32 ``[B, 1, h, w]``."""
        height, width = x.shape[3:]
        taps = x.permute(0, 2, 3, 4, 1).flatten(2, 3) @ self.weight  # [B, d, h w, places]
        taps = taps.sum(1, dtype=torch.float32)[..., : self.side**2]
        taps = taps.transpose(1, 2).unflatten(2, (height, width))
        taps = F.pad(taps, 4 * [self.side // 2])
        of_all, of_tap, down, right = taps.stride()
        shifted = taps.as_strided(  # place (i, j) of the kernel, i rows and j columns further on
            (len(x), self.side, self.side, height, width),
            (of_all, self.side * of_tap + down, of_tap + right, down, right),
        )
        return shifted.sum((1, 2))[:, None] + self.bias.float()


def by_pictures(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of pictures ``[B, C, h, w]`` of every depth of volumes ``[B, C, d, h, w]``.

    Channels that come last stay last, which PyTorch's own pools and enlargements of volumes do not leave so.
    """
    pictures = function(x.transpose(1, 2).flatten(0, 1))
    return pictures.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def missing(channels: int) -> int:
    """Channels that are missing to a count that tensor cores like."""
    return -channels % WHOLE_CHANNELS


def _longer(weight: Tensor, dimension: int, zeros: int) -> Tensor:
    """A weight with so many zeros behind it in one dimension."""
    return F.pad(weight, [0, 0] * (weight.dim() - 1 - dimension) + [0, zeros])


def widened(conv: nn.Module, inputs: int, outputs: int = 0) -> nn.Module:
    """A convolution that reads more channels, which it ignores, and gives more channels, of zeros."""
    weight = _longer(_longer(conv.weight, 1, inputs), 0, outputs)
    wider = type(conv)(
        weight.shape[1], weight.shape[0], conv.kernel_size, padding=conv.padding, device=weight.device
    )
    return set_weights(wider, weight, _longer(conv.bias, 0, outputs), weight.dtype)
