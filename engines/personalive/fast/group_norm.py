"""Group norm that stays in channels-last order.

PyTorch's CUDA kernel works on contiguous maps only, so that every norm between channels-last convolutions
costs two transpositions. Here sums are taken per channel, which reads whole rows, and combined to groups
afterwards; see `map_kernels`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...gpu.map_kernels import norm_maps
from ...gpu.swap import StandIn
from ...gpu.triton_support import available


class ChannelsLastGroupNorm(StandIn, nn.GroupNorm):
    """``nn.GroupNorm`` for inference; the CPU and maps in another order take PyTorch's way."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, h, w] to maps of the same size."""
        usable = x.is_contiguous(memory_format=torch.channels_last) and not torch.is_grad_enabled()
        if not usable or not available(x.device):
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        if torch.compiler.is_compiling():
            return self._traced(x)
        return norm_maps((x,), self)

    def _traced(self, x: Tensor) -> Tensor:
        """The same in operations that a compiler can fuse with their neighbours."""
        rows = x.permute(0, 2, 3, 1).flatten(1, 2).float()
        batch, pixels, channels = rows.shape
        spread = (batch, self.num_groups, channels // self.num_groups)
        sums = torch.stack([rows.sum(1), rows.square().sum(1)], 1).view(batch, 2, *spread[1:])
        mean, square = (sums.sum(-1) / (pixels * spread[-1])).unbind(1)
        scale = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        scale = scale[..., None].expand(spread).reshape(batch, channels) * self.weight.float()
        shift = self.bias.float() - mean[..., None].expand(spread).reshape(batch, channels) * scale
        out = (rows * scale[:, None] + shift[:, None]).to(x.dtype)
        return out.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
