"""Attention of many queries to few keys, those of the prompt and of speech, as one Triton kernel.

The padding behind a prompt consists of equal tokens, so that one key with the others' weight on top stands for all of
them: exp(s) n times is exp(s + log n). What is left is little to compute, and mostly to read and write.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ...gpu.generation import AMPERE, generation
from ...gpu.triton_support import available, tl, triton

MOST = 256
"""With more keys the library's attention is faster, although it reads all of the padding."""
QUERIES, KEYS = 64, 32
"""Queries of a program, and keys that it takes at a time."""


def usable(q: Tensor, k: Tensor) -> bool:
    """Whether `attend` takes these queries and keys."""
    short = k.shape[1] <= MOST and q.shape[-1] in (32, 64, 128)
    return short and q.dtype in (torch.bfloat16, torch.float16) and _runs_on(q.device)


@functools.cache
def _runs_on(device: torch.device) -> bool:
    # Older GPUs have no more shared memory than it takes, or less.
    return available(device) and generation(device) >= AMPERE


def attend(q: Tensor, k: Tensor, v: Tensor, last: int = 1) -> Tensor:
    """`product.attention`, with the same arguments."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    batch, tokens, heads, width = q.shape
    out = torch.empty_like(q)
    scale = width**-0.5 * math.log2(math.e)
    _attend_kernel[(triton.cdiv(tokens, QUERIES), heads, batch)](
        q,
        k,
        v,
        out,
        tokens,
        k.shape[1],
        heads,
        scale,
        math.log2(last),
        WIDTH=width,
        QUERIES=QUERIES,
        KEYS=KEYS,
        num_warps=4,
    )
    return out


if triton is not None:

    @triton.jit
    def _attend_kernel(
        q,  # [B, tokens, heads, WIDTH]
        k,  # [B, keys, heads, WIDTH]
        v,  # [B, keys, heads, WIDTH]
        out,  # [B, tokens, heads, WIDTH]
        tokens,
        keys,
        heads,
        scale,  # of the scores, for powers of two
        more,  # what the last score is raised by
        WIDTH: tl.constexpr,
        QUERIES: tl.constexpr,
        KEYS: tl.constexpr,
    ):
        # Programs: blocks of QUERIES queries, heads, batch. Each goes through all keys in turns of KEYS.
        head, batch = tl.program_id(1), tl.program_id(2)
        row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
        column = tl.arange(0, WIDTH)
        known = (row < tokens)[:, None]
        place = ((batch * tokens + row).to(tl.int64) * heads + head)[:, None] * WIDTH + column[None]
        query = tl.load(q + place, mask=known, other=0.0)
        top = tl.full((QUERIES,), -float("inf"), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        sums = tl.zeros((QUERIES, WIDTH), tl.float32)
        for start in range(0, keys, KEYS):
            key = start + tl.arange(0, KEYS)
            there = ((batch * keys + key) * heads + head)[:, None] * WIDTH + column[None]
            inside = (key < keys)[:, None]
            scores = tl.dot(query, tl.trans(tl.load(k + there, mask=inside, other=0.0))) * scale
            scores += tl.where(key == keys - 1, more, tl.where(key < keys, 0.0, -float("inf")))[None]
            highest = tl.maximum(top, tl.max(scores, 1))
            weight = tl.exp2(scores - highest[:, None])
            fade = tl.exp2(top - highest)
            total = total * fade + tl.sum(weight, 1)
            value = tl.load(v + there, mask=inside, other=0.0)
            sums = sums * fade[:, None] + tl.dot(weight.to(value.dtype), value)
            top = highest
        tl.store(out + place, (sums / total[:, None]).to(out.dtype.element_ty), mask=known)
