"""The 8-bit keys and values of `formats` as two Triton kernels, which read and write each value once."""

from __future__ import annotations

from torch import Tensor

from ...gpu.triton_support import tl, triton

ROWS = 32
"""Heads of tokens per program."""


def encode(k: Tensor, v: Tensor, out: list[Tensor]) -> None:
    """`formats.Decoded.encode` in 8 bits: ``out`` is keys, their scales, values, their scales."""
    _, tokens, heads, width = k.shape
    rows = tokens * heads
    _encode_kernel[(triton.cdiv(rows, ROWS), 2)](
        *_plain(k), *_plain(v), *out, rows, heads, WIDTH=width, ROWS=ROWS, num_warps=4
    )


def put_together(
    condition: list[Tensor],
    ring: list[Tensor],
    k: Tensor,
    v: Tensor,
    start: int,
    room_k: Tensor,
    room_v: Tensor,
) -> None:
    """`formats.Decoded.put_together`: ``k`` and ``v`` take the place of the ring's tokens from ``start`` on."""
    _, visible, heads, width = room_k.shape
    first = condition[0].shape[0]
    rows = visible * heads
    _put_together_kernel[(triton.cdiv(rows, ROWS), 2)](
        *condition,
        *ring,
        *_plain(k),
        *_plain(v),
        room_k,
        room_v,
        rows,
        heads,
        first * heads,
        (first + start) * heads,
        (first + start + k.shape[1]) * heads,
        WIDTH=width,
        ROWS=ROWS,
        num_warps=4,
    )


def _plain(x: Tensor) -> tuple[Tensor, int]:
    """A tensor whose heads lie side by side, and the distance from token to token."""
    if x.stride(3) != 1 or x.stride(2) != x.shape[3]:
        x = x.contiguous()
    return x, x.stride(1)


if triton is not None:

    @triton.jit
    def _encode_kernel(
        k,  # [tokens, heads, WIDTH], tokens k_stride apart
        k_stride,
        v,  # [tokens, heads, WIDTH], tokens v_stride apart
        v_stride,
        k8,  # [tokens, heads, WIDTH], int8
        k_scale,  # [tokens, heads, 1]
        v8,  # [tokens, heads, WIDTH], int8
        v_scale,  # [tokens, heads, 1]
        rows,  # tokens * heads
        heads,
        WIDTH: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS heads of tokens; 0 for keys, 1 for values. Each head of a token gets a scale of its
        # own.
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        column = tl.arange(0, WIDTH)
        token, head = row // heads, row % heads
        if tl.program_id(1) == 0:
            source, out, out_scale = k + token * k_stride, k8, k_scale
        else:
            source, out, out_scale = v + token * v_stride, v8, v_scale
        known = row < rows
        inside = known[:, None] & (column < WIDTH)[None]
        x = tl.load(source[:, None] + head[:, None] * WIDTH + column[None], mask=inside, other=0.0).to(
            tl.float32
        )
        scale = tl.maximum(tl.max(tl.abs(x), 1) / 127.0, 1e-12).to(out_scale.dtype.element_ty)
        level = tl.floor(x / scale.to(tl.float32)[:, None] + 0.5)
        level = tl.minimum(tl.maximum(level, -127.0), 127.0)
        tl.store(out + row[:, None] * WIDTH + column[None], level.to(tl.int8), mask=inside)
        tl.store(out_scale + row, scale, mask=known)

    @triton.jit
    def _put_together_kernel(
        condition_k,  # [first, heads, WIDTH], int8
        condition_k_scale,  # [first, heads, 1]
        condition_v,  # [first, heads, WIDTH], int8
        condition_v_scale,  # [first, heads, 1]
        ring_k,  # [ring, heads, WIDTH], int8
        ring_k_scale,  # [ring, heads, 1]
        ring_v,  # [ring, heads, WIDTH], int8
        ring_v_scale,  # [ring, heads, 1]
        new_k,  # [tokens, heads, WIDTH], tokens k_stride apart
        k_stride,
        new_v,  # [tokens, heads, WIDTH], tokens v_stride apart
        v_stride,
        room_k,  # [visible, heads, WIDTH]
        room_v,  # [visible, heads, WIDTH]
        rows,  # visible * heads
        heads,
        ring_start,  # the rows where the ring begins,
        new_start,  # where the new tokens begin in it
        new_end,  # and where they end
        WIDTH: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS heads of tokens; 0 for keys, 1 for values. Each decodes its rows from the condition
        # or the ring, or copies them from the new tokens.
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        column = tl.arange(0, WIDTH)[None]
        if tl.program_id(1) == 0:
            c, cs, r, rs, n, room = condition_k, condition_k_scale, ring_k, ring_k_scale, new_k, room_k
            stride = k_stride
        else:
            c, cs, r, rs, n, room = condition_v, condition_v_scale, ring_v, ring_v_scale, new_v, room_v
            stride = v_stride
        fixed = row < ring_start
        new = (row >= new_start) & (row < new_end)
        kept = (row < rows) & (row >= ring_start) & ((row < new_start) | (row >= new_end))
        ring_row = row - ring_start
        value = tl.load(c + row[:, None] * WIDTH + column, mask=fixed[:, None], other=0).to(tl.float32)
        value *= tl.load(cs + row, mask=fixed, other=0.0).to(tl.float32)[:, None]
        more = tl.load(r + ring_row[:, None] * WIDTH + column, mask=kept[:, None], other=0).to(tl.float32)
        value += more * tl.load(rs + ring_row, mask=kept, other=0.0).to(tl.float32)[:, None]
        token, head = (row - new_start) // heads, row % heads
        place = token[:, None] * stride + head[:, None] * WIDTH + column
        value += tl.load(n + place, mask=new[:, None], other=0.0).to(tl.float32)
        target = room + row[:, None] * WIDTH + column
        tl.store(target, value.to(room.dtype.element_ty), mask=(row < rows)[:, None])
