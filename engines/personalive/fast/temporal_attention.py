"""Attention over the frames of the window: many tiny problems, one for every place and head.

Ordinary attention kernels are slow at this; on CUDA a Triton kernel, where Triton works, puts several
places into one tile and masks what does not belong together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...gpu.triton_support import available, power_of_two, tl, triton

TILE = 4096  # elements of one operand that a program holds; more would spill registers
MOST_ROWS = 64
FEWEST_ROWS = 16  # what a tensor core takes


def temporal_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """``[F, N, C]`` each; every one of the N places attends over its F frames. Returns ``[F, N, C]``."""
    if not torch.is_grad_enabled() and available(q.device):
        return tiled(q, k, v, heads)
    return plain(q, k, v, heads)


def plain(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """`temporal_attention` by PyTorch's own attention."""
    q, k, v = (x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(2)


def tiled(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """`temporal_attention` by the Triton kernel; the three may be slices of one tensor ``[F, N, >=C]``."""
    frames, places, width = q.shape
    if not (q.stride() == k.stride() == v.stride() == (places * q.stride(1), q.stride(1), 1)):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    head = width // heads
    head_pad = max(16, power_of_two(head))
    frames_pad = power_of_two(frames)
    rows = max(FEWEST_ROWS, frames_pad, min(MOST_ROWS, TILE // head_pad))
    block = rows // frames_pad
    out = q.new_empty(q.shape)
    _kernel[(heads, -(-places // block))](
        q,
        k,
        v,
        out,
        places,
        width,
        q.stride(1),
        head**-0.5,
        FRAMES=frames,
        FRAMES_PAD=frames_pad,
        HEAD=head,
        HEAD_PAD=head_pad,
        PLACES=block,
        num_warps=4,
    )
    return out


if triton is not None:

    @triton.jit
    def _kernel(
        q,  # [F, N, C], rows stride apart
        k,  # like q
        v,  # like q
        out,  # [F, N, C]
        places,  # N
        width,  # C
        stride,
        scale,
        FRAMES: tl.constexpr,
        FRAMES_PAD: tl.constexpr,
        HEAD: tl.constexpr,
        HEAD_PAD: tl.constexpr,
        PLACES: tl.constexpr,
    ):
        # Programs: heads, blocks of PLACES places. Each has the frames of its places as rows of one matrix and masks
        # the scores between different places.
        head = tl.program_id(0)
        rows = tl.arange(0, PLACES * FRAMES_PAD)
        place = tl.program_id(1) * PLACES + rows // FRAMES_PAD
        frame = rows % FRAMES_PAD
        columns = tl.arange(0, HEAD_PAD)
        inside = (place < places) & (frame < FRAMES)
        row = (frame * places + place).to(tl.int64)
        where = (row * stride + head * HEAD)[:, None] + columns[None, :]
        mask = inside[:, None] & (columns[None, :] < HEAD)
        queries = tl.load(q + where, mask=mask, other=0.0)
        keys = tl.load(k + where, mask=mask, other=0.0)
        values = tl.load(v + where, mask=mask, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        together = (place[:, None] == place[None, :]) & inside[None, :]
        scores = tl.where(together, scores, -1e30)
        scores = tl.exp(scores - tl.max(scores, 1)[:, None])
        weights = scores / tl.sum(scores, 1)[:, None]
        result = tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        where = (row * width + head * HEAD)[:, None] + columns[None, :]
        tl.store(out + where, result.to(out.dtype.element_ty), mask=mask)
