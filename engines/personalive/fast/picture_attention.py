"""The decoder's attention: one head as wide as the map, over every pixel of a picture.

No attention kernel of PyTorch's is made for so wide a head. Scores of some rows at a time, in float32, are written
out; a Triton kernel makes them probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

MOST_SCORES = 2**24  # at a time: 64 MiB


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
    block = 1 << (width - 1).bit_length()
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
    def _softmax_kernel(scores, out, width, scale, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, BLOCK)
        inside = column < width
        value = tl.load(scores + row * width + column, mask=inside, other=-float("inf")) * scale
        value = tl.exp2(value - tl.max(value, 0))
        tl.store(out + row * width + column, (value / tl.sum(value, 0)).to(out.dtype.element_ty), mask=inside)
