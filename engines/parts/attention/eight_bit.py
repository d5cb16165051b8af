"""Attention over keys and values in 8 bits, and how they are written, as Triton kernels for `kv.eight_bit`."""

from __future__ import annotations

import functools
import math
from functools import partial

import torch
from torch import Tensor

from ...gpu import triton_support
from ...gpu.generation import ADA, generation, is_hopper
from ...gpu.row_kernels import FLOAT8
from ...gpu.trial import passes, require_close
from ...gpu.triton_support import tl, triton
from . import eight_bit_hopper
from .flash import plain

TILE = 128
"""Tokens that share a scale, per head."""
ROOM = 8.0
"""Attention's weights are up to 2**ROOM in float8, whose largest number is 448."""
MOST_ERROR = 0.06
"""Relative error that a trial's result may have."""


def tiles(tokens: int) -> int:
    """Tiles that ``tokens`` take."""
    return -(-tokens // TILE)


@functools.cache
def available(device: torch.device, head_dim: int) -> bool:
    """Whether `attend` runs on ``device``: an NVIDIA GPU that multiplies float8, with a Triton that works."""
    if generation(device) < ADA or head_dim not in (32, 64, 128, 256) or not triton_support.available(device):
        return False
    return passes(
        partial(_try, device, head_dim, hopper=False), "LiveAvatar: 8-bit attention cannot be used here: %s"
    )


@functools.cache
def _on_hopper(device: torch.device, head_dim: int) -> bool:
    """Whether the kernel that is written for Hopper takes the general one's place."""
    if head_dim != eight_bit_hopper.HEAD_DIM or not eight_bit_hopper.available(device):
        return False
    return passes(
        partial(_try, device, head_dim, hopper=True),
        "LiveAvatar: Hopper's kernel for 8-bit attention cannot be used here: %s",
    )


def _try(device: torch.device, head_dim: int, hopper: bool) -> None:
    """Run the kernels on random values; RuntimeError unless they agree with PyTorch."""
    heads, block, slots = 2, 500, 3
    generator = torch.Generator(device).manual_seed(0)
    q, *rest = (
        torch.randn(tokens, heads, head_dim, device=device, dtype=torch.bfloat16, generator=generator)
        for tokens in (block, *(slots + 1) * (block, block))
    )
    mean = torch.zeros(heads, head_dim, device=device)
    size = tiles(block) * TILE
    pieces = []
    for k, v in zip(rest[::2], rest[1::2], strict=True):
        parts = [
            torch.zeros(heads, size, head_dim, device=device, dtype=torch.int8),
            torch.zeros(heads, tiles(block), device=device),
            torch.zeros(heads, head_dim, size, device=device, dtype=FLOAT8),
            torch.zeros(heads, tiles(block), device=device),
        ]
        write(k, mean, *parts[:2], 0)
        write(v, mean, *parts[2:], 0)
        pieces.append(parts)
    ring = [torch.stack(part) for part in zip(*pieces[1:], strict=True)]
    for seen in (slots - 1, slots):  # Hopper's kernel splits its programs for the last one
        padding = (seen + 1) * (size - block)
        found = _launch(q[None], pieces[0], ring, seen, padding, mean, hopper)
        keys, values = (torch.cat(part[: seen + 1])[None] for part in (rest[::2], rest[1::2]))
        require_close(found, plain(q[None].float(), keys.float(), values.float()), MOST_ERROR)


def write(x: Tensor, mean: Tensor, levels: Tensor, scales: Tensor, tile: int) -> None:
    """Keep ``x`` [tokens, heads, head_dim] less ``mean`` [heads, head_dim] from a tile on.

    ``levels`` int8 [heads, room, head_dim] for keys or float8 [heads, head_dim, room] for values; ``scales`` [heads,
    tiles].
    """
    if x.stride(2) != 1 or x.stride(1) != x.shape[2]:
        x = x.contiguous()
    tokens, heads, width = x.shape
    room = scales.shape[1] * TILE
    _write_kernel[(tiles(tokens), heads)](
        x,
        mean,
        levels,
        scales,
        x.stride(0),
        tokens,
        tile,
        room,
        VALUES=levels.dtype == FLOAT8,
        WIDTH=width,
        TILE=TILE,
        num_warps=8,
    )


def attend(
    q: Tensor, condition: list[Tensor], ring: list[Tensor], slots: int, padding: int, mean: Tensor
) -> Tensor:
    """Attention of ``q`` [1, tokens, heads, head_dim] over the condition and the first ``slots`` of the ring.

    ``padding``: tokens of zeros among them; ``mean`` [heads, head_dim]: of the values.
    """
    return _launch(q, condition, ring, slots, padding, mean, _on_hopper(q.device, q.shape[-1]))


def _launch(
    q: Tensor,
    condition: list[Tensor],
    ring: list[Tensor],
    slots: int,
    padding: int,
    mean: Tensor,
    hopper: bool,
) -> Tensor:
    q = q.contiguous()
    out = torch.empty_like(q)
    scale = q.shape[-1] ** -0.5 * math.log2(math.e)
    if hopper:
        eight_bit_hopper.attend(q, condition, ring, slots, padding, mean, scale, out, TILE, ROOM)
        return out
    _, tokens, heads, width = q.shape
    _attend_kernel[(triton.cdiv(tokens, TILE), heads)](
        q,
        *condition,
        *ring,
        mean,
        out,
        tokens,
        condition[1].shape[-1],
        ring[1].shape[-1],
        slots,
        padding,
        scale,
        heads,
        ROOM=ROOM,
        WIDTH=width,
        TILE=TILE,
        num_warps=8,
        num_stages=4 if is_hopper(q.device) and width <= 128 else 2,
    )
    return out


if triton is not None:

    @triton.jit
    def _write_kernel(
        x,  # [tokens, heads, WIDTH], tokens stride apart
        mean,  # [heads, WIDTH], float32
        levels,  # [heads, room, WIDTH], int8, or [heads, WIDTH, room], float8, if VALUES
        scales,  # [heads, room / TILE], float32
        stride,
        tokens,
        first,  # the first tile that is written
        room,
        VALUES: tl.constexpr,
        WIDTH: tl.constexpr,
        TILE: tl.constexpr,
    ):
        # Programs: tiles, heads. Each tile of a head gets a scale of its own.
        tile, head = tl.program_id(0), tl.program_id(1)
        token = tile * TILE + tl.arange(0, TILE)
        column = tl.arange(0, WIDTH)
        known = (token < tokens)[:, None]
        place = token.to(tl.int64)[:, None] * stride + head * WIDTH + column[None]
        value = tl.load(x + place, mask=known, other=0.0).to(tl.float32)
        value -= tl.load(mean + head * WIDTH + column)[None]
        value = tl.where(known, value, 0.0)
        largest = tl.max(tl.max(tl.abs(value), 1), 0)
        tile += first
        inside = tile * TILE + tl.arange(0, TILE)
        if VALUES:
            scale = tl.maximum(largest / 448.0, 1e-12)
            y = (value * (1.0 / scale)).to(tl.float8e4nv)
            # The order of `kv.eight_bit.ORDER`: the bits of a token's number among 32 change places.
            y = tl.reshape(tl.trans(y), (WIDTH, TILE // 32, 2, 2, 4, 2))
            y = tl.reshape(tl.permute(y, (0, 1, 2, 4, 3, 5)), (WIDTH, TILE))
            target = (head.to(tl.int64) * WIDTH + column[:, None]) * room + inside[None]
            tl.store(levels + target, y)
        else:
            scale = tl.maximum(largest / 127.0, 1e-12)
            # 1.5 * 2**23 on top leaves the nearest integer in the lowest bits.
            y = (value * (1.0 / scale) + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)
            target = (head.to(tl.int64) * room + inside[:, None]) * WIDTH + column[None]
            tl.store(levels + target, y)
        tl.store(scales + head * (room // TILE) + tile, scale)

    @triton.jit
    def _scores(q, keys, TILE: tl.constexpr):
        # Integers below 2**22 on top of these bits are the fraction of a float32: no conversion is needed.
        start = tl.full((TILE, TILE), 0x4B400000, tl.int32)
        return tl.dot(q, tl.trans(keys), acc=start, out_dtype=tl.int32)

    @triton.jit
    def _attend_segment(
        q,
        q_scale,
        keys,
        key_scales,
        values,
        value_scales,
        head,
        heads,
        count,
        slots,
        sums,
        total,
        top,
        unit,
        ROOM: tl.constexpr,
        WIDTH: tl.constexpr,
        TILE: tl.constexpr,
    ):
        token, column = tl.arange(0, TILE), tl.arange(0, WIDTH)
        row = token[:, None] * WIDTH + column[None]
        room = count * TILE
        # Continues an attention over the tiles of one tensor of keys, [slots, heads, count * TILE, WIDTH], and its
        # scales and values, as in `_attend_kernel`: ``sums`` [TILE, WIDTH] in steps of ``unit``, ``total`` and ``top``
        # [TILE] are what has been added up so far.
        # Scores are one tile ahead, so that the matrix unit has them ready when a tile's softmax is done.
        scores = _scores(q, tl.load(keys + head.to(tl.int64) * room * WIDTH + row), TILE)
        slot, tile = 0, 0
        for _ in tl.range(0, slots * count):
            base = slot * heads + head
            now = scores
            factor = q_scale * tl.load(key_scales + base * count + tile)
            value_scale = tl.load(value_scales + base * count + tile)
            place = base.to(tl.int64) * room * WIDTH + column[:, None] * room + (tile * TILE + token)[None]
            value = tl.load(values + place)
            tile += 1
            if tile == count:
                tile = 0
                slot += 1
            after = (tl.minimum(slot, slots - 1) * heads + head).to(tl.int64) * room * WIDTH
            scores = _scores(q, tl.load(keys + after + tile * TILE * WIDTH + row), TILE)

            largest = tl.max(now, 1).to(tl.float32, bitcast=True) - 12582912.0
            highest = tl.maximum(top, largest * factor)
            shift = highest - ROOM + 12582912.0 * factor
            weight = tl.exp2(now.to(tl.float32, bitcast=True) * factor[:, None] - shift[:, None])
            fade = tl.exp2(top - highest)
            total = total * fade + tl.sum(weight, 1)
            weight = tl.reshape(weight.to(tl.float8e4nv), (TILE, TILE // 32, 2, 2, 4, 2))
            weight = tl.reshape(tl.permute(weight, (0, 1, 2, 4, 3, 5)), (TILE, TILE))
            # A tile's products are added up apart: the matrix unit's own sums keep few bits.
            sums = sums * (fade * (unit / value_scale))[:, None] + tl.dot(weight, tl.trans(value))
            top, unit = highest, value_scale
        return sums, total, top, unit

    @triton.jit
    def _attend_kernel(
        q,  # [tokens, heads, WIDTH]
        condition_k,  # [heads, condition_tiles * TILE, WIDTH], int8
        condition_k_scale,  # [heads, condition_tiles], float32
        condition_v,  # [heads, WIDTH, condition_tiles * TILE], float8
        condition_v_scale,  # [heads, condition_tiles], float32
        ring_k,  # [>=slots, heads, block_tiles * TILE, WIDTH], int8
        ring_k_scale,  # [>=slots, heads, block_tiles], float32
        ring_v,  # [>=slots, heads, WIDTH, block_tiles * TILE], float8
        ring_v_scale,  # [>=slots, heads, block_tiles], float32
        mean,  # [heads, WIDTH], float32
        out,  # [tokens, heads, WIDTH]
        tokens,
        condition_tiles,
        block_tiles,
        slots,
        padding,  # tokens of zeros among the keys
        scale,  # of the scores, for powers of two
        heads,
        ROOM: tl.constexpr,
        WIDTH: tl.constexpr,
        TILE: tl.constexpr,
    ):
        # Programs: blocks of TILE queries, heads. Each goes through the tiles of the condition, then through those of
        # the ring.
        head = tl.program_id(1)
        row = tl.program_id(0) * TILE + tl.arange(0, TILE)
        column = tl.arange(0, WIDTH)
        known = (row < tokens)[:, None]
        place = (row.to(tl.int64) * heads + head)[:, None] * WIDTH + column[None]
        query = tl.load(q + place, mask=known, other=0.0).to(tl.float32)
        step = tl.maximum(tl.max(tl.abs(query), 1), 1e-12) / 127.0
        query = tl.floor(query / step[:, None] + 0.5).to(tl.int8)
        step *= scale
        top = tl.full((TILE,), -float("inf"), tl.float32)
        total = tl.zeros((TILE,), tl.float32)
        sums = tl.zeros((TILE, WIDTH), tl.float32)
        unit = 1.0
        sums, total, top, unit = _attend_segment(
            query,
            step,
            condition_k,
            condition_k_scale,
            condition_v,
            condition_v_scale,
            head,
            heads,
            condition_tiles,
            1,
            sums,
            total,
            top,
            unit,
            ROOM,
            WIDTH,
            TILE,
        )
        sums, total, top, unit = _attend_segment(
            query,
            step,
            ring_k,
            ring_k_scale,
            ring_v,
            ring_v_scale,
            head,
            heads,
            block_tiles,
            slots,
            sums,
            total,
            top,
            unit,
            ROOM,
            WIDTH,
            TILE,
        )
        # Padding scores zero. As the keys' mean is zero, it is never most of the total.
        total -= padding * tl.exp2(ROOM - top)
        result = sums * (unit / total)[:, None] + tl.load(mean + head * WIDTH + column)[None]
        tl.store(out + place, result.to(out.dtype.element_ty), mask=known)
