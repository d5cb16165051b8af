"""Triton kernels for the work between matrix products, convolutions and attention, which read everything once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...gpu.triton_support import power_of_two, tl, triton

TILE = 2048  # elements that a program holds at a time


def add_norm(
    x: Tensor,
    y: Tensor | None,
    norm: nn.LayerNorm,
    table: Tensor | None = None,
    total: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``x + y`` (x itself where y is None), and its layer norm over the last axis; ``[F, N, C]`` each.

    table: ``[>=F, C]``, added to the norm of every place of a frame. total: where the sum goes, the columns of a wider
    tensor perhaps.
    """
    width = x.shape[-1]
    rows = x.numel() // width
    x = x.contiguous()
    if y is None:
        total = x
    elif total is None:
        total = torch.empty_like(x)
    out = torch.empty_like(x)
    block = power_of_two(width)
    step = max(1, TILE // block)
    _norm_kernel[(-(-rows // step),)](
        x,
        x if y is None else y.contiguous(),
        norm.weight,
        norm.bias,
        x if table is None else table.contiguous(),
        total,
        out,
        rows,
        x.shape[-2],
        width,
        total.stride(-2),
        norm.eps,
        ADD=y is not None,
        TABLE=table is not None,
        ROWS=step,
        BLOCK=block,
        num_warps=4,
    )
    return total, out


def geglu(x: Tensor, out: Tensor | None = None) -> Tensor:
    """The first half of the last axis times the exact GELU of the second; ``out`` may be columns of a wider tensor."""
    width = x.shape[-1] // 2
    x = x.contiguous()
    out = x.new_empty((*x.shape[:-1], width)) if out is None else out
    rows = out.numel() // width
    block = _column_block(width)
    step = TILE // block
    _geglu_kernel[(-(-rows // step), -(-width // block))](
        x, out, rows, width, out.stride(-2), ROWS=step, BLOCK=block, num_warps=4
    )
    return out


def join_reference(own: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values ``[F, N + R, C]`` of every frame: its own, the last two thirds of ``[F, N, 3 C]``, and behind
    them the reference's ``[1, R, C]``."""
    frames, places, _ = own.shape
    _, extra, width = keys.shape
    out = own.new_empty((2, frames, places + extra, width))
    block = _column_block(width)
    step = TILE // block
    columns = -(-width // block)
    _join_kernel[(-(-(places + extra) // step), 2 * columns, frames)](
        own.contiguous(),
        keys.contiguous(),
        values.contiguous(),
        out,
        places,
        extra,
        width,
        COLUMNS=columns,
        ROWS=step,
        BLOCK=block,
        num_warps=4,
    )
    return out[0], out[1]


def _column_block(width: int) -> int:
    """Columns that a program handles: as many as possible, but none in vain."""
    return next((block for block in (512, 256, 128, 64) if width % block == 0), min(512, power_of_two(width)))


if triton is not None:

    @triton.jit
    def _norm_kernel(
        x,  # [F, N, C]
        y,  # [F, N, C], if ADD
        weight,  # [C]
        bias,  # [C]
        table,  # [>=F, C], if TABLE
        total,  # [F, N, C], rows total_stride apart, if ADD
        out,  # [F, N, C]
        rows,  # F * N
        places,  # N
        width,  # C
        total_stride,
        eps,
        ADD: tl.constexpr,
        TABLE: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        # Programs: blocks of ROWS rows. Each adds up, writes the sum, and norms it as it was rounded.
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.arange(0, BLOCK)
        inside = column < width
        mask = (row < rows)[:, None] & inside[None, :]
        where = row.to(tl.int64)[:, None] * width + column[None, :]
        value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(y + where, mask=mask, other=0.0).to(tl.float32)
            rounded = value.to(total.dtype.element_ty)
            tl.store(total + row.to(tl.int64)[:, None] * total_stride + column[None, :], rounded, mask=mask)
            value = rounded.to(tl.float32)
        mean = tl.sum(value, 1) / width
        centred = tl.where(mask, value - mean[:, None], 0.0)
        deviation = tl.sqrt(tl.sum(centred * centred, 1) / width + eps)
        a = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
        result = centred / deviation[:, None] * a[None, :] + b[None, :]
        if TABLE:
            frame = row // places
            result += tl.load(table + frame[:, None] * width + column[None, :], mask=mask, other=0.0).to(
                tl.float32
            )
        tl.store(out + where, result.to(out.dtype.element_ty), mask=mask)

    @triton.jit
    def _normal_probability(x):
        """The normal distribution up to x, to 1e-7: Abramowitz and Stegun, 7.1.26. With CUDA's own erf, which is exact
        to the last bit, the kernel would wait for arithmetic instead of memory."""
        far = tl.abs(x) * 0.7071067811865476
        t = 1.0 / (1.0 + 0.3275911 * far)
        tail = t * (
            0.127414796 + t * (-0.142248368 + t * (0.7107068705 + t * (-0.7265760135 + t * 0.5307027145)))
        )
        tail *= tl.exp2(far * far * -1.4426950408889634)
        return tl.where(x > 0.0, 1.0 - tail, tail)

    @triton.jit
    def _geglu_kernel(
        x,  # [rows, 2 * width]
        out,  # [rows, width], rows out_stride apart
        rows,
        width,
        out_stride,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        # Programs: blocks of rows, blocks of columns.
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        mask = (row < rows)[:, None] & (column < width)[None, :]
        line = row.to(tl.int64)[:, None] * width
        value = tl.load(x + 2 * line + column[None, :], mask=mask, other=0.0).to(tl.float32)
        gate = tl.load(x + 2 * line + width + column[None, :], mask=mask, other=0.0).to(tl.float32)
        gate *= _normal_probability(gate)
        where = row.to(tl.int64)[:, None] * out_stride + column[None, :]
        tl.store(out + where, (value * gate).to(out.dtype.element_ty), mask=mask)

    @triton.jit
    def _join_kernel(
        own,  # [F, N, 3 C]
        keys,  # [R, C]
        values,  # [R, C]
        out,  # [2, F, N + R, C]
        places,  # N
        extra,  # R
        width,  # C
        COLUMNS: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        # Programs: blocks of rows; keys, then values, in COLUMNS blocks of columns each; frames. Each copies its part
        # of the frame's own rows or of the reference's.
        kind = tl.program_id(1) // COLUMNS  # 0: keys, 1: values
        frame = tl.program_id(2).to(tl.int64)
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.program_id(1) % COLUMNS * BLOCK + tl.arange(0, BLOCK)
        inside = (column < width)[None, :]
        here = (row < places)[:, None] & inside
        there = ((row >= places) & (row < places + extra))[:, None] & inside
        where = (frame * places + row)[:, None] * 3 * width + (kind + 1) * width + column[None, :]
        value = tl.load(own + where, mask=here, other=0.0)
        where = (row - places)[:, None] * width + column[None, :]
        if kind == 0:
            value += tl.load(keys + where, mask=there, other=0.0)
        else:
            value += tl.load(values + where, mask=there, other=0.0)
        where = ((kind * tl.num_programs(2) + frame) * (places + extra) + row)[:, None] * width + column[
            None, :
        ]
        tl.store(out + where, value, mask=here | there)
