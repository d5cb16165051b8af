"""The elementwise work of a layer as Triton kernels: one program per token, each row read and written once.

Arithmetic is float32 between load and store. Results may leave as float8 rows with a scale each, ready for
`fp8.Fp8Linear`, so that quantising costs no pass of its own.

A row is held as a tuple of pieces, since Triton's blocks are powers of two and 5120 in 8192 leaves a third of the
lanes idle. Instructions per value count: with twenty of them a kernel waits for arithmetic, no longer for memory.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .triton_support import power_of_two, tl, triton

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest finite float8_e4m3fn."""


class Rows(NamedTuple):
    """Quantised rows: ``values`` float8 [tokens, width] times ``scale`` float32 [tokens, 1]."""

    values: Tensor
    scale: Tensor


class Sum(NamedTuple):
    """A residual stream that is added up, in float32, where it is read: its sums would be more to move than its terms.

    ``x`` and what was ``added`` to it are [1, tokens, width], the gates [width], or None for one.
    """

    x: Tensor
    added: tuple[Tensor, ...] = ()
    gates: tuple[Tensor | None, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the terms are."""
        return self.x.device


def add(x: Tensor | Sum, y: Tensor, gate: Tensor | None = None) -> Sum:
    """The residual stream ``x`` [1, tokens, width] with ``y``, or ``y * gate`` [width], added."""
    x, added, gates = _sum(x)
    return Sum(x, (*added, y.contiguous()), (*gates, gate))


def total(x: Tensor | Sum, dtype: torch.dtype) -> Tensor:
    """The residual stream in ``dtype``, [1, tokens, width]."""
    x, added, gates = _sum(x)
    out = torch.empty(x.shape, device=x.device, dtype=dtype)
    width = x.shape[-1]
    _total_kernel[(x.numel() // width,)](x, added, gates, out, **_split(width, 4))
    return out


def modulate(
    x: Tensor | Sum, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype | None
) -> Tensor | Rows:
    """``norm(x) * (1 + scale) + shift`` with the layer norm and vectors [width]; a ``dtype`` of None gives `Rows`."""
    return _norm(x, shift, scale, eps, dtype)


def norm(
    x: Tensor | Sum, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype | None = None
) -> Tensor | Rows:
    """Layer norm with ``weight`` and ``bias``; a ``dtype`` of None gives `Rows`."""
    return _norm(x, bias, weight, eps, dtype, affine=True)


def modulate_speech(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`modulate` per speaker and latent frame: ``x`` [1, frames * n, width], ``shift`` [speakers, frames, width] ->
    [speakers * frames, n, width] in the dtype of ``shift``."""
    speakers, frames, width = shift.shape
    out = _norm(x, shift, scale, eps, shift.dtype, speakers=speakers, frames=frames)
    return out.view(speakers * frames, -1, width)


def quantise(x: Tensor, gelu: bool = False) -> Rows:
    """``x`` [..., width], behind a GELU (tanh) if asked, as `Rows`."""
    width = x.shape[-1]
    x = x.reshape(-1, width)
    out = _empty_rows(x.shape, x.device)
    _quantise_kernel[(x.shape[0],)](x, *out, x.stride(0), GELU=gelu, **_split(width, 8))
    return out


def swiglu(a: Tensor, b: Tensor, dtype: torch.dtype | None) -> Tensor | Rows:
    """``silu(a) * b``, both [B, tokens, width], in ``dtype``; None gives `Rows`."""
    width = a.shape[-1]
    rows = a.numel() // width
    if dtype is None:
        out = _empty_rows((rows, width), a.device)
    else:
        out = Rows(torch.empty(a.shape, device=a.device, dtype=dtype), a)
    _swiglu_kernel[(rows,)](a.contiguous(), b.contiguous(), *out, QUANTISE=dtype is None, **_split(width, 8))
    return out if dtype is None else out.values


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, heads: int, rotation: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """RMS norm of ``x`` [tokens, n * dim], which may be a slice of a wider tensor, in n parts with a row of ``weight``
    [n, dim] each; split into heads and, if asked, turned as by `rotate`: [n, tokens, heads, head_dim]."""
    parts, width = weight.shape
    out = torch.empty((parts, x.shape[0], heads, width // heads), device=x.device, dtype=x.dtype)
    _rows(x, x.stride(0), width, weight, rotation, out, eps)
    return out


def head_norm(
    x: Tensor, weight: Tensor, eps: float, heads: int, rotation: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """RMS norm of every head of the first n parts of ``x`` [tokens, parts * dim], with a row of ``weight`` [n,
    head_dim] for each part; turned as by `rotate` if asked: [n, tokens, heads, head_dim]."""
    parts, head_dim = weight.shape
    out = torch.empty((parts, x.shape[0], heads, head_dim), device=x.device, dtype=x.dtype)
    _rows(x, x.stride(0), heads * head_dim, weight, rotation, out, eps, by_head=True)
    return out


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the interleaved pairs of ``x`` [B, tokens, heads, head_dim] by cosines and sines [tokens, head_dim / 2]."""
    x = x.contiguous()
    out = torch.empty(x.shape, device=x.device, dtype=x.dtype)
    _rows(x, x.stride(1), x.stride(0), None, rotation, out, 0.0)
    return out


def _rows(
    x: Tensor,
    stride: int,
    step: int,
    weight: Tensor | None,
    rotation: tuple[Tensor, Tensor] | None,
    out: Tensor,
    eps: float,
    by_head: bool = False,
) -> None:
    parts, tokens, heads, head_dim = out.shape
    _rms_rotate_kernel[(tokens, parts)](
        x,
        x if weight is None else weight,
        *(rotation or (x, x)),
        out,
        stride,
        step,
        eps,
        NORM=weight is not None,
        BY_HEAD=by_head,
        ROTATE=rotation is not None,
        HALF=head_dim // 2,
        **_split(heads * head_dim, 8),
    )


def _empty_rows(shape: Sequence[int], device: torch.device) -> Rows:
    return Rows(
        torch.empty(shape, device=device, dtype=FLOAT8),
        torch.empty((shape[0], 1), device=device, dtype=torch.float32),
    )


def _sum(x: Tensor | Sum) -> Sum:
    return x if isinstance(x, Sum) else Sum(x.contiguous())


def _norm(
    x: Tensor | Sum,
    shift: Tensor,
    scale: Tensor,
    eps: float,
    dtype: torch.dtype | None,
    *,
    affine: bool = False,
    speakers: int = 1,
    frames: int = 1,
) -> Tensor | Rows:
    x, added, gates = _sum(x)
    width = x.shape[-1]
    tokens = x.numel() // width
    rows = speakers * tokens
    shape = x.shape if rows == tokens and dtype is not None else (rows, width)
    out = torch.empty(shape, device=x.device, dtype=dtype or FLOAT8)
    out_scale = torch.empty((rows, 1), device=x.device, dtype=torch.float32) if dtype is None else out
    _norm_kernel[(tokens // frames, frames, speakers)](
        x,
        added,
        gates,
        shift.contiguous(),
        scale.contiguous(),
        out,
        out_scale,
        eps,
        AFFINE=affine,
        QUANTISE=dtype is None,
        **_split(width, 4),
    )
    return out if dtype is not None else Rows(out, out_scale)


@functools.cache
def _split(width: int, values: int) -> dict[str, int]:
    """The pieces of a row and the warps that share them, with ``values`` per thread and piece: 16 bytes of the
    widest format that is read or written."""
    piece = min(power_of_two(width), 1024 if width <= 8192 else 2048)
    return {"WIDTH": width, "PIECE": piece, "num_warps": max(piece // (32 * values), 1)}


if triton is not None:
    # When a value is wanted again: not while the cache could hold it (rows that are read, the float32 sum), soon
    # (what the next kernel reads), or by every program (vectors).
    ONCE, SOON, OFTEN = tl.constexpr("evict_first"), tl.constexpr(""), tl.constexpr("evict_last")

    @triton.jit
    def _load(x, start, WANTED: tl.constexpr, WIDTH: tl.constexpr, PIECE: tl.constexpr):
        column = tl.arange(0, PIECE)
        value = tl.load(x + start + column, mask=start + column < WIDTH, other=0.0, eviction_policy=WANTED)
        return value.to(tl.float32)

    @triton.jit
    def _store(x, start, value, WANTED: tl.constexpr, WIDTH: tl.constexpr, PIECE: tl.constexpr):
        column = tl.arange(0, PIECE)
        value = value.to(x.dtype.element_ty)
        tl.store(x + start + column, value, mask=start + column < WIDTH, eviction_policy=WANTED)

    @triton.jit
    def _store_quantised(values, out, out_scale, WIDTH: tl.constexpr, PIECE: tl.constexpr):
        largest = tl.abs(values[0])
        for i in tl.static_range(1, len(values)):
            largest = tl.maximum(largest, tl.abs(values[i]))
        scale = tl.maximum(tl.max(largest, 0), 1e-12) / 448.0
        inverse = 1.0 / scale  # 448 and a rounding error become 448 in float8
        for i in tl.static_range(len(values)):
            _store(out, i * PIECE, values[i] * inverse, SOON, WIDTH, PIECE)
        tl.store(out_scale, scale)

    @triton.jit
    def _load_sum(x, added, gates, place, start, WIDTH: tl.constexpr, PIECE: tl.constexpr):
        value = _load(x + place, start, ONCE, WIDTH, PIECE)
        for i in tl.static_range(len(added)):
            more = _load(added[i] + place, start, ONCE, WIDTH, PIECE)
            if gates[i] is not None:
                more *= _load(gates[i], start, OFTEN, WIDTH, PIECE)
            value += more
        return value

    @triton.jit
    def _norm_kernel(
        x,  # [tokens, WIDTH]
        added,  # tuple of [tokens, WIDTH]
        gates,  # tuple of [WIDTH] or None
        shift,  # [speakers, frames, WIDTH]
        scale,  # like shift
        out,  # [speakers * tokens, WIDTH], float8 if QUANTISE
        out_scale,  # [speakers * tokens, 1], float32, if QUANTISE
        eps,
        AFFINE: tl.constexpr,
        QUANTISE: tl.constexpr,
        WIDTH: tl.constexpr,
        PIECE: tl.constexpr,
    ):
        # Programs: the tokens of a frame, frames, speakers. Each frame and speaker has vectors of its own.
        frame = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
        row = (frame * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
        token = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        place = token.to(tl.int64) * WIDTH
        values = ()
        for start in tl.static_range(0, WIDTH, PIECE):
            values += (_load_sum(x, added, gates, place, start, WIDTH, PIECE),)
        sums = values[0]
        for i in tl.static_range(1, len(values)):
            sums += values[i]
        mean = tl.sum(sums, 0) / WIDTH
        squares = tl.zeros((PIECE,), tl.float32)
        for i in tl.static_range(len(values)):
            centred = tl.where(i * PIECE + tl.arange(0, PIECE) < WIDTH, values[i] - mean, 0.0)
            squares += centred * centred
        inverse = tl.rsqrt(tl.sum(squares, 0) / WIDTH + eps)
        normed = ()
        for i in tl.static_range(len(values)):
            factor = _load(scale + frame * WIDTH, i * PIECE, OFTEN, WIDTH, PIECE)
            if not AFFINE:
                factor += 1.0
            offset = _load(shift + frame * WIDTH, i * PIECE, OFTEN, WIDTH, PIECE)
            normed += ((values[i] * inverse - mean * inverse) * factor + offset,)
        if QUANTISE:
            _store_quantised(normed, out + row * WIDTH, out_scale + row, WIDTH, PIECE)
        else:
            for i in tl.static_range(len(normed)):
                _store(out + row * WIDTH, i * PIECE, normed[i], SOON, WIDTH, PIECE)

    @triton.jit
    def _total_kernel(
        x,  # [tokens, WIDTH]
        added,  # tuple of [tokens, WIDTH]
        gates,  # tuple of [WIDTH] or None
        out,  # [tokens, WIDTH]
        WIDTH: tl.constexpr,
        PIECE: tl.constexpr,
    ):
        # Programs: tokens.
        place = tl.program_id(0).to(tl.int64) * WIDTH
        for start in tl.static_range(0, WIDTH, PIECE):
            value = _load_sum(x, added, gates, place, start, WIDTH, PIECE)
            _store(out + place, start, value, SOON, WIDTH, PIECE)

    @triton.jit
    def _gelu(x):
        # x * sigmoid(2 u) is 0.5 x (1 + tanh(u)); a root's reciprocal, squared, is cheaper than a division.
        root = tl.rsqrt(1.0 + tl.exp2(x * (-2.302208198 - 0.102943240 * x * x)))
        return x * root * root

    @triton.jit
    def _quantise_kernel(
        x,  # [tokens, WIDTH], rows stride apart
        out,  # [tokens, WIDTH], float8
        out_scale,  # [tokens, 1], float32
        stride,
        GELU: tl.constexpr,
        WIDTH: tl.constexpr,
        PIECE: tl.constexpr,
    ):
        # Programs: tokens.
        row = tl.program_id(0).to(tl.int64)
        values = ()
        for start in tl.static_range(0, WIDTH, PIECE):
            value = _load(x + row * stride, start, ONCE, WIDTH, PIECE)
            values += (_gelu(value) if GELU else value,)
        _store_quantised(values, out + row * WIDTH, out_scale + row, WIDTH, PIECE)

    @triton.jit
    def _swiglu_kernel(
        a,  # [rows, WIDTH]
        b,  # [rows, WIDTH]
        out,  # [rows, WIDTH], float8 if QUANTISE
        out_scale,  # [rows, 1], float32, if QUANTISE
        QUANTISE: tl.constexpr,
        WIDTH: tl.constexpr,
        PIECE: tl.constexpr,
    ):
        # Programs: rows.
        row = tl.program_id(0).to(tl.int64)
        values = ()
        for start in tl.static_range(0, WIDTH, PIECE):
            gate = _load(a + row * WIDTH, start, ONCE, WIDTH, PIECE)
            value = _load(b + row * WIDTH, start, ONCE, WIDTH, PIECE)
            values += (gate / (1.0 + tl.exp(-gate)) * value,)
        if QUANTISE:
            _store_quantised(values, out + row * WIDTH, out_scale + row, WIDTH, PIECE)
        else:
            for i in tl.static_range(len(values)):
                _store(out + row * WIDTH, i * PIECE, values[i], SOON, WIDTH, PIECE)

    @triton.jit
    def _rms_rotate_kernel(
        x,  # [parts, tokens, WIDTH], parts step and tokens stride apart
        weight,  # [parts, WIDTH], if NORM
        cos,  # [tokens, HALF], float32, if ROTATE
        sin,  # like cos
        out,  # [parts, tokens, WIDTH]
        stride,
        step,
        eps,
        NORM: tl.constexpr,
        BY_HEAD: tl.constexpr,  # one norm and WEIGHT [parts, 2 * HALF] for each head
        ROTATE: tl.constexpr,
        HALF: tl.constexpr,
        WIDTH: tl.constexpr,
        PIECE: tl.constexpr,
    ):
        # Programs: tokens, parts.
        token, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
        row = part * tl.num_programs(0) + token
        values = ()
        for start in tl.static_range(0, WIDTH, PIECE):
            values += (_load(x + token * stride + part * step, start, ONCE, WIDTH, PIECE),)
        if NORM and not BY_HEAD:
            squares = values[0] * values[0]
            for i in tl.static_range(1, len(values)):
                squares += values[i] * values[i]
            inverse = tl.rsqrt(tl.sum(squares, 0) / WIDTH + eps)
        for i in tl.static_range(len(values)):
            value = values[i]
            if BY_HEAD:
                of_heads = tl.reshape(value, (PIECE // (2 * HALF), 2 * HALF))
                inverse = tl.rsqrt(tl.sum(of_heads * of_heads, 1) / (2 * HALF) + eps)
                factor = tl.load(weight + part * 2 * HALF + tl.arange(0, 2 * HALF)).to(tl.float32)
                value = tl.reshape(of_heads * inverse[:, None] * factor[None], (PIECE,))
            elif NORM:
                value *= inverse * _load(weight + part * WIDTH, i * PIECE, OFTEN, WIDTH, PIECE)
            if ROTATE:
                even, odd = tl.split(tl.reshape(value, (PIECE // 2, 2)))
                angle = token * HALF + (i * PIECE // 2 + tl.arange(0, PIECE // 2)) % HALF
                c, s = tl.load(cos + angle), tl.load(sin + angle)
                value = tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), (PIECE,))
            _store(out + row * WIDTH, i * PIECE, value, SOON, WIDTH, PIECE)
