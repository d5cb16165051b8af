"""Attention over a frame's motion tokens, in the tokens' own width.

Keys and values are projections of tokens that are much narrower than a head (16 against 40 to 160), and all heads
read the same tokens. So a head's score of token m for the normed place n is ``n (Wq^T Wk) m`` with a product of
width 16 in the middle, and what it gives is ``(Wo Wv)`` of a mean of tokens. The large products shrink from the
width of the map to that of all heads' tokens, and keys and values are never made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...gpu.triton_support import power_of_two, tl, triton
from ..layers import Attention

ROWS = 128  # places times heads that a program handles
LOG2_E = 1.4426950408889634


def narrow_weights(attention: Attention) -> tuple[Tensor, Tensor]:
    """Weights ``[heads * W, C]`` from places to what tokens of width W are scored with, and ``[C, heads * W]`` from the
    mean tokens of all heads to the layer's output (without its bias)."""
    heads, dtype = attention.heads, attention.to_q.weight.dtype
    q, k, v = (
        layer.weight.float().unflatten(0, (heads, -1))
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    out = attention.to_out[0].weight.float().unflatten(1, (heads, -1))
    ask = torch.einsum("hdw,hdc->hwc", k, q) * q.shape[1] ** -0.5
    answer = torch.einsum("ohd,hdw->ohw", out, v)
    return ask.flatten(0, 1).to(dtype).contiguous(), answer.flatten(1).to(dtype).contiguous()


def plain(asked: Tensor, tokens: Tensor) -> Tensor:
    """`token_attention` by PyTorch."""
    q = asked.unflatten(-1, (-1, tokens.shape[-1])).transpose(1, 2)
    keys = tokens[:, None].expand(-1, q.shape[1], -1, -1)
    return F.scaled_dot_product_attention(q, keys, keys, scale=1.0).transpose(1, 2).flatten(2)


def token_attention(asked: Tensor, tokens: Tensor) -> Tensor:
    """Mean tokens ``[F, N, heads * W]`` by the softmax of ``asked`` (the same shape) times tokens ``[F, T, W]``."""
    frames, count, width = tokens.shape
    asked, tokens = asked.contiguous(), tokens.contiguous()
    rows = asked.numel() // frames // width
    out = torch.empty_like(asked)
    _kernel[(-(-rows // ROWS), frames)](
        asked,
        tokens,
        out,
        rows,
        LOG2_E,
        COUNT=count,
        COUNT_PAD=max(16, power_of_two(count)),
        WIDTH=width,
        WIDTH_PAD=max(16, power_of_two(width)),
        ROWS=ROWS,
        num_warps=4,
    )
    return out


if triton is not None:

    @triton.jit
    def _kernel(
        asked,  # [F, rows, WIDTH]
        tokens,  # [F, COUNT, WIDTH]
        out,  # [F, rows, WIDTH]
        rows,  # N * heads
        log2_e,
        COUNT: tl.constexpr,
        COUNT_PAD: tl.constexpr,
        WIDTH: tl.constexpr,
        WIDTH_PAD: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS rows, each a head of a place; frames.
        frame = tl.program_id(1).to(tl.int64)
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.arange(0, WIDTH_PAD)
        token = tl.arange(0, COUNT_PAD)
        mask = (row < rows)[:, None] & (column < WIDTH)[None, :]
        where = (frame * rows + row)[:, None] * WIDTH + column[None, :]
        queries = tl.load(asked + where, mask=mask, other=0.0)
        place = (frame * COUNT + token)[:, None] * WIDTH + column[None, :]
        known = (token < COUNT)[:, None] & (column < WIDTH)[None, :]
        keys = tl.load(tokens + place, mask=known, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * log2_e
        scores = tl.where((token < COUNT)[None, :], scores, -1e30)
        scores = tl.exp2(scores - tl.max(scores, 1)[:, None])
        result = tl.dot(scores.to(keys.dtype), keys, input_precision="ieee") / tl.sum(scores, 1)[:, None]
        tl.store(out + where, result.to(out.dtype.element_ty), mask=mask)
