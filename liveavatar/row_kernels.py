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
        **_in_two(width),
    )
    return total, out if dtype is not None else Rows(out, out_scale)


def _add_gated(x: Tensor, y: Tensor, gate: Tensor, total: Tensor, cast: Tensor) -> None:
    width = x.shape[-1]
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
        **_in_two(width),
    )


def _in_two(width: int) -> dict[str, int]:
    """A row as two blocks, since Triton's are powers of two: 5120 is 4096 and 1024, and not 8192 of which a third would
    be idle."""
    first = 1 << (width.bit_length() - 1)
    second = max(triton.next_power_of_2(width - first), 16) if width > first else 16
    return {"FIRST": first, "SECOND": second, "num_warps": _warps(first + second)}


def _warps(block: int) -> int:
    return min(max(block // 2048, 1), 8)


if triton is not None:

    @triton.jit
    def _read(source, column, rest, inside):
        """The two blocks of a row."""
        first = tl.load(source + column).to(tl.float32)
        return first, tl.load(source + rest, mask=inside, other=0.0).to(tl.float32)

    @triton.jit
    def _write(target, first, second, column, rest, inside):
        tl.store(target + column, first.to(target.dtype.element_ty))
        tl.store(target + rest, second.to(target.dtype.element_ty), mask=inside)

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
        FIRST: tl.constexpr,
        SECOND: tl.constexpr,
    ):
        start = tl.program_id(0).to(tl.int64) * ROWS
        column, rest = tl.arange(0, FIRST), FIRST + tl.arange(0, SECOND)
        inside = rest < width
        # Rows of a program share these vectors, which are as large as a row.
        vector = (start // group) * width
        factor, factor2 = _read(scale + vector, column, rest, inside)
        if not AFFINE:
            factor += 1.0
            factor2 += 1.0
        offset, offset2 = _read(shift + vector, column, rest, inside)
        if GATED:
            strength, strength2 = _read(gate, column, rest, inside)
        for i in range(ROWS):
            row = start + i
            place = (row % tokens) * width
            value, value2 = _read(x + place, column, rest, inside)
            if ADD:
                more, more2 = _read(y + place, column, rest, inside)
                if GATED:
                    more *= strength
                    more2 *= strength2
                value += more
                value2 += more2
                _write(total + place, value, value2, column, rest, inside)
            mean = (tl.sum(value, 0) + tl.sum(value2, 0)) / width
            value -= mean
            value2 = tl.where(inside, value2 - mean, 0.0)
            square = tl.sum(value * value, 0) + tl.sum(value2 * value2, 0)
            size = tl.rsqrt(square / width + eps)
            value = value * size * factor + offset
            value2 = tl.where(inside, value2 * size * factor2 + offset2, 0.0)
            if QUANTISE:
                largest = tl.maximum(tl.max(tl.abs(value), 0), tl.max(tl.abs(value2), 0))
                step = tl.maximum(largest, 1e-12) / 448.0
                value = tl.minimum(tl.maximum(value / step, -448.0), 448.0)
                value2 = tl.minimum(tl.maximum(value2 / step, -448.0), 448.0)
                tl.store(out_scale + row, step)
            _write(out + row * width, value, value2, column, rest, inside)

    @triton.jit
    def _add_gated_kernel(
        x,
        y,
        gate,
        total,
        cast,
        width,
        BOTH: tl.constexpr,
        ROWS: tl.constexpr,
        FIRST: tl.constexpr,
        SECOND: tl.constexpr,
    ):
        start = tl.program_id(0).to(tl.int64) * ROWS
        column, rest = tl.arange(0, FIRST), FIRST + tl.arange(0, SECOND)
        inside = rest < width
        strength, strength2 = _read(gate, column, rest, inside)
        for i in range(ROWS):
            place = (start + i) * width
            value, value2 = _read(x + place, column, rest, inside)
            more, more2 = _read(y + place, column, rest, inside)
            value += more * strength
            value2 += more2 * strength2
            _write(total + place, value, value2, column, rest, inside)
            if BOTH:
                _write(cast + place, value, value2, column, rest, inside)

    @triton.jit
    def _quantise_kernel(x, out, out_scale, stride, width, GELU: tl.constexpr, WIDTH: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, WIDTH)
        inside = column < width
        value = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
        if GELU:
            # x * sigmoid(2 u) is 0.5 x (1 + tanh(u))
            value *= tl.sigmoid(1.5957691216057308 * (value + 0.044715 * value * value * value))
        scale = tl.maximum(tl.max(tl.abs(value), 0), 1e-12) / 448.0
        value = tl.minimum(tl.maximum(value / scale, -448.0), 448.0)
        tl.store(out + row * width + column, value.to(tl.float8e4nv), mask=inside)
        tl.store(out_scale + row, scale)

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
