"""The elementwise work of a layer as Triton kernels: one program per token, each row read and written once.

They compute what the functions of the same names in `regions` do, in float32 between load and store. Results may
leave as float8 rows with a scale each, ready for `fp8.Fp8Linear`, so that quantising costs no pass of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

FLOAT8 = torch.float8_e4m3fn
TOGETHER = 4  # rows per program where they share vectors
LARGEST = 448.0
"""The largest finite float8_e4m3fn."""


class Rows(NamedTuple):
    """Quantised rows: ``values`` float8 [tokens, width] times ``scale`` float32 [tokens, 1]."""

    values: Tensor
    scale: Tensor


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype | None) -> Tensor | Rows:
    """`regions.modulate`; a ``dtype`` of None gives `Rows`."""
    return _norm(x, shift, scale, eps, dtype)[1]


def add_modulate(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor | Rows]:
    """`regions.add_modulate`; a ``dtype`` of None gives `Rows`."""
    return _norm(x, shift, scale, eps, dtype, add=y)


def add_gated_norm(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Rows]:
    """``x + y * gate`` in float32, and its layer norm with ``weight`` and ``bias`` as `Rows`."""
    return _norm(x, bias, weight, eps, None, add=y, gate=gate, affine=True)


def modulate_speech(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`regions.modulate_speech`."""
    speakers, frames, width = shift.shape
    tokens = x.shape[1] // frames
    out = _norm(x, shift, scale, eps, shift.dtype, rows=speakers * x.shape[1], group=tokens)[1]
    return out.view(speakers * frames, tokens, width)


def add_gated(x: Tensor, y: Tensor, gate: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`regions.add_gated`."""
    total = torch.empty(x.shape, device=x.device, dtype=torch.float32)
    cast = total if dtype == torch.float32 else torch.empty(x.shape, device=x.device, dtype=dtype)
    _add_gated(x, y, gate, total, cast)
    return total, cast


def close_gated(x: Tensor, y: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
    """`regions.close_gated`."""
    out = torch.empty(x.shape, device=x.device, dtype=dtype)
    _add_gated(x, y, gate, out, out)
    return out


def quantise(x: Tensor, gelu: bool = False) -> Rows:
    """``x`` [..., width], behind a GELU (tanh) if asked, as `Rows`."""
    width = x.shape[-1]
    x = x.reshape(-1, width)
    out = Rows(
        torch.empty(x.shape, device=x.device, dtype=FLOAT8),
        torch.empty((x.shape[0], 1), device=x.device, dtype=torch.float32),
    )
    block = triton.next_power_of_2(width)
    _quantise_kernel[(x.shape[0],)](
        x, *out, x.stride(0), width, GELU=gelu, WIDTH=block, num_warps=_warps(block)
    )
    return out


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, heads: int, rotation: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """RMS norm of ``x`` [tokens, dim], which may be a slice of a wider tensor, split into heads and, if asked, turned
    as by `rope.rotate`: [1, tokens, heads, head_dim]."""
    tokens, width = x.shape
    out = torch.empty((1, tokens, heads, width // heads), device=x.device, dtype=x.dtype)
    _rows(x, weight, rotation, out, eps)
    return out


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """`rope.rotate`."""
    out = torch.empty(x.shape, device=x.device, dtype=x.dtype)
    _rows(x.contiguous().flatten(2).flatten(0, 1), None, rotation, out, 0.0)
    return out


def _rows(
    x: Tensor, weight: Tensor | None, rotation: tuple[Tensor, Tensor] | None, out: Tensor, eps: float
) -> None:
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    _rms_rotate_kernel[(x.shape[0],)](
        x,
        x if weight is None else weight,
        *(rotation or (x, x)),
        out,
        x.stride(0),
        out.shape[1],
        width,
        eps,
        NORM=weight is not None,
        ROTATE=rotation is not None,
        HALF=out.shape[-1] // 2,
        WIDTH=block,
        num_warps=_warps(block),
    )


def _norm(
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    eps: float,
    dtype: torch.dtype | None,
    *,
    add: Tensor | None = None,
    gate: Tensor | None = None,
    affine: bool = False,
    rows: int | None = None,
    group: int | None = None,
) -> tuple[Tensor, Tensor | Rows]:
    width = x.shape[-1]
    tokens = x.numel() // width
    rows = rows or tokens
    x = x.contiguous()
    total = x if add is None else torch.empty(x.shape, device=x.device, dtype=torch.float32)
    shape = x.shape if rows == tokens and dtype is not None else (rows, width)
    out = torch.empty(shape, device=x.device, dtype=dtype or FLOAT8)
    out_scale = torch.empty((rows, 1), device=x.device, dtype=torch.float32) if dtype is None else out
    block = triton.next_power_of_2(width)
    # A group of rows has vectors of its own, so that no program may reach into the next one.
    together = math.gcd(group or rows, TOGETHER)
    _norm_kernel[(rows // together,)](
        x,
        x if add is None else add.contiguous(),
        x if gate is None else gate,
        shift.contiguous(),
        scale.contiguous(),
        total,
        out,
        out_scale,
        tokens,
        group or rows,
        width,
        eps,
        ADD=add is not None,
        GATED=gate is not None,
        AFFINE=affine,
        QUANTISE=dtype is None,
        ROWS=together,
        WIDTH=block,
        num_warps=_warps(block),
    )
    return total, out if dtype is not None else Rows(out, out_scale)


def _add_gated(x: Tensor, y: Tensor, gate: Tensor, total: Tensor, cast: Tensor) -> None:
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    rows = x.numel() // width
    together = math.gcd(rows, TOGETHER)
    _add_gated_kernel[(rows // together,)](
        x.contiguous(),
        y.contiguous(),
        gate,
        total,
        cast,
        width,
        BOTH=total is not cast,
        ROWS=together,
        WIDTH=block,
        num_warps=_warps(block),
    )


def _warps(block: int) -> int:
    return min(max(block // 2048, 1), 8)


if triton is not None:

    @triton.jit
    def _store_quantised(value, inside, column, row, out, out_scale, width):
        largest = tl.max(tl.abs(value), 0)
        scale = tl.maximum(largest, 1e-12) / 448.0
        value = tl.minimum(tl.maximum(value / scale, -448.0), 448.0)
        tl.store(out + row * width + column, value.to(tl.float8e4nv), mask=inside)
        tl.store(out_scale + row, scale)

    @triton.jit
    def _norm_kernel(
        x,
        y,
        gate,
        shift,
        scale,
        total,
        out,
        out_scale,
        tokens,
        group,
        width,
        eps,
        ADD: tl.constexpr,
        GATED: tl.constexpr,
        AFFINE: tl.constexpr,
        QUANTISE: tl.constexpr,
        ROWS: tl.constexpr,
        WIDTH: tl.constexpr,
    ):
        first = tl.program_id(0).to(tl.int64) * ROWS
        column = tl.arange(0, WIDTH)
        inside = column < width
        # Rows of a program share these vectors, which are as large as a row.
        vector = (first // group) * width + column
        factor = tl.load(scale + vector, mask=inside, other=0.0).to(tl.float32)
        if not AFFINE:
            factor += 1.0
        offset = tl.load(shift + vector, mask=inside, other=0.0).to(tl.float32)
        if GATED:
            strength = tl.load(gate + column, mask=inside, other=0.0).to(tl.float32)
        for i in range(ROWS):
            row = first + i
            place = (row % tokens) * width + column
            value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
            if ADD:
                more = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
                if GATED:
                    more *= strength
                value += more
                tl.store(total + place, value, mask=inside)
            mean = tl.sum(value, 0) / width
            centred = tl.where(inside, value - mean, 0.0)
            normed = centred * tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
            normed = normed * factor + offset
            if QUANTISE:
                _store_quantised(normed, inside, column, row, out, out_scale, width)
            else:
                tl.store(out + row * width + column, normed.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def _add_gated_kernel(
        x, y, gate, total, cast, width, BOTH: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
    ):
        first = tl.program_id(0).to(tl.int64) * ROWS
        column = tl.arange(0, WIDTH)
        inside = column < width
        strength = tl.load(gate + column, mask=inside)
        for i in range(ROWS):
            place = (first + i) * width + column
            value = tl.load(x + place, mask=inside).to(tl.float32)
            value += tl.load(y + place, mask=inside).to(tl.float32) * strength
            tl.store(total + place, value.to(total.dtype.element_ty), mask=inside)
            if BOTH:
                tl.store(cast + place, value.to(cast.dtype.element_ty), mask=inside)

    @triton.jit
    def _quantise_kernel(x, out, out_scale, stride, width, GELU: tl.constexpr, WIDTH: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, WIDTH)
        inside = column < width
        value = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
        if GELU:
            # x * sigmoid(2 u) is 0.5 x (1 + tanh(u))
            value *= tl.sigmoid(1.5957691216057308 * (value + 0.044715 * value * value * value))
        _store_quantised(value, inside, column, row, out, out_scale, width)

    @triton.jit
    def _rms_rotate_kernel(
        x,
        weight,
        cos,
        sin,
        out,
        stride,
        tokens,
        width,
        eps,
        NORM: tl.constexpr,
        ROTATE: tl.constexpr,
        HALF: tl.constexpr,
        WIDTH: tl.constexpr,
    ):
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, WIDTH)
        inside = column < width
        value = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
        if NORM:
            value *= tl.rsqrt(tl.sum(value * value, 0) / width + eps)
            value *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        if ROTATE:
            even, odd = tl.split(tl.reshape(value, (WIDTH // 2, 2)))
            angle = (row % tokens) * HALF + tl.arange(0, WIDTH // 2) % HALF
            c, s = tl.load(cos + angle), tl.load(sin + angle)
            value = tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), (WIDTH,))
        tl.store(out + row * width + column, value.to(out.dtype.element_ty), mask=inside)
