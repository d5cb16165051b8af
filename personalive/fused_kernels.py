"""What lies between matrix products, convolutions and attention, as Triton kernels that read everything once."""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

TILE = 2048  # elements that a program holds at a time


def available(device: torch.device) -> bool:
    """Whether the kernels run on ``device``."""
    return device.type == "cuda" and triton is not None


def add_norm(
    x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float, table: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``x + y`` (x itself where y is None), and its layer norm over the last axis; ``[F, N, C]`` each.

    table: ``[>=F, C]``, added to the norm of every place of a frame.
    """
    width = x.shape[-1]
    rows = x.numel() // width
    x = x.contiguous()
    total = x if y is None else torch.empty_like(x)
    out = torch.empty_like(x)
    block = _power_of_two(width)
    step = max(1, TILE // block)
    _norm_kernel[(-(-rows // step),)](
        x,
        x if y is None else y.contiguous(),
        weight,
        bias,
        weight if table is None else table.contiguous(),
        total,
        out,
        rows,
        x.shape[-2],
        width,
        eps,
        ADD=y is not None,
        TABLE=table is not None,
        ROWS=step,
        BLOCK=block,
        num_warps=4,
    )
    return total, out


def geglu(x: Tensor) -> Tensor:
    """The first half of the last axis times the exact GELU of the second."""
    width = x.shape[-1] // 2
    x = x.contiguous()
    out = x.new_empty((*x.shape[:-1], width))
    rows = out.numel() // width
    block = min(512, _power_of_two(width))
    step = TILE // block
    _geglu_kernel[(-(-rows // step), -(-width // block))](
        x, out, rows, width, ROWS=step, BLOCK=block, num_warps=4
    )
    return out


def add_maps(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """``x + y + bias`` of channels-last ``[B, C, h, w]`` and ``[C]``."""
    x, y = (t.contiguous(memory_format=torch.channels_last) for t in (x, y))
    out = torch.empty_like(x)
    width = x.shape[1]
    rows = x.numel() // width
    block = min(512, _power_of_two(width))
    step = TILE // block
    _add_kernel[(-(-rows // step), -(-width // block))](
        x, y, bias, out, rows, width, ROWS=step, BLOCK=block, num_warps=4
    )
    return out


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


if triton is not None:

    @triton.jit
    def _norm_kernel(
        x,
        y,
        weight,
        bias,
        table,
        total,
        out,
        rows,
        places,
        width,
        eps,
        ADD: tl.constexpr,
        TABLE: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.arange(0, BLOCK)
        inside = column < width
        mask = (row < rows)[:, None] & inside[None, :]
        where = row.to(tl.int64)[:, None] * width + column[None, :]
        value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(y + where, mask=mask, other=0.0).to(tl.float32)
            rounded = value.to(total.dtype.element_ty)
            tl.store(total + where, rounded, mask=mask)
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
    def _geglu_kernel(x, out, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        mask = (row < rows)[:, None] & (column < width)[None, :]
        line = row.to(tl.int64)[:, None] * width
        value = tl.load(x + 2 * line + column[None, :], mask=mask, other=0.0).to(tl.float32)
        gate = tl.load(x + 2 * line + width + column[None, :], mask=mask, other=0.0).to(tl.float32)
        gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
        tl.store(out + line + column[None, :], (value * gate).to(out.dtype.element_ty), mask=mask)

    @triton.jit
    def _add_kernel(x, y, bias, out, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < width
        mask = (row < rows)[:, None] & inside[None, :]
        where = row.to(tl.int64)[:, None] * width + column[None, :]
        value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
        value += tl.load(y + where, mask=mask, other=0.0).to(tl.float32)
        value += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        tl.store(out + where, value.to(out.dtype.element_ty), mask=mask)
