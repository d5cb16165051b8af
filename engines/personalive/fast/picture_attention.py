"""The decoder's attention: one head as wide as the map, over every pixel of a picture.

No attention kernel of PyTorch's is made for so wide a head. Scores of some rows at a time, in float32, are written
out; a Triton kernel makes them probabilities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ...gpu.map_kernels import add_maps, norm_maps
from ...gpu.swap import StandIn
from ...gpu.triton_support import power_of_two, tl, triton
from ..layers import to_map, to_tokens
from .transformers import side_by_side

MOST_SCORES = 2**24  # at a time: 64 MiB


class FusedPictureAttention(StandIn, Attention):
    """The decoder's attention: norm, one product for all three, one wide head, residual."""

    @classmethod
    def fits(cls, layer: Attention) -> bool:
        """Whether it has one head behind a group norm, biases and a residual, and PyTorch the products for it."""
        return (
            layer.heads == 1
            and layer.group_norm is not None
            and layer.spatial_norm is None
            and layer.norm_q is None
            and layer.norm_k is None
            and layer.residual_connection
            and layer.rescale_output_factor == 1.0
            and layer.to_q.bias is not None
            # products that leave in float32, from PyTorch 2.8 on
            and "dtype" in torch.ops.aten.mm.overloads()
        )

    def prepare(self) -> None:
        """Lay weights and biases side by side."""
        layers = self.to_q, self.to_k, self.to_v
        self.qkv = side_by_side(*layers)
        self.qkv_bias = torch.cat([layer.bias.data for layer in layers])

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """Maps [B, C, h, w] to maps of the same size."""
        x, out = hidden_states, self.to_out[0]
        tokens = to_tokens(norm_maps((x,), self.group_norm))
        q, k, v = F.linear(tokens, self.qkv, self.qkv_bias).chunk(3, -1)
        y = F.linear(picture_attention(q, k, v), out.weight)
        return add_maps(x, to_map(y, x), out.bias)


def picture_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of ``[B, N, C]`` in one head, picture by picture."""
    out = torch.empty(q.shape, device=q.device, dtype=q.dtype)
    keys = k.shape[1]
    rows = max(1, MOST_SCORES // keys)
    for picture in range(len(q)):
        for start in range(0, q.shape[1], rows):
            part = q[picture, start : start + rows]
            scores = _scores(part, k[picture].t())
            probabilities = softmax_rows(scores, q.shape[-1] ** -0.5, q.dtype)
            torch.mm(probabilities, v[picture], out=out[picture, start : start + rows])
    return out


def softmax_rows(scores: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Softmax of ``scale`` times float32 ``[R, N]`` over the last axis, in ``dtype``."""
    rows, width = scores.shape
    out = torch.empty((rows, width), device=scores.device, dtype=dtype)
    block = power_of_two(width)
    _softmax_kernel[(rows,)](
        scores, out, width, scale * 1.4426950408889634, BLOCK=block, num_warps=min(max(block // 1024, 4), 16)
    )
    return out


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """Product in float32 whatever the factors' type."""
    if q.dtype == torch.float32:
        return q @ k
    return torch.mm(q, k, out_dtype=torch.float32)


if triton is not None:

    @triton.jit
    def _softmax_kernel(
        scores,  # [R, width], float32
        out,  # [R, width]
        width,
        scale,
        BLOCK: tl.constexpr,
    ):
        # Programs: rows.
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, BLOCK)
        inside = column < width
        value = tl.load(scores + row * width + column, mask=inside, other=-float("inf")) * scale
        value = tl.exp2(value - tl.max(value, 0))
        tl.store(out + row * width + column, (value / tl.sum(value, 0)).to(out.dtype.element_ty), mask=inside)
