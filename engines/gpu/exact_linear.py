"""A linear layer in float32 on tensor cores, with what lies around it.

PyTorch multiplies float32 matrices either in TF32, with 10 bits of mantissa, or without tensor cores. Here each factor
is split into two TF32 numbers and three of the four products are summed, which is float32 but for a bit or two.
"""

from __future__ import annotations

from torch import Tensor, nn

from .triton_support import tl, triton

ENOUGH_PROGRAMS = 128


def exact_linear(
    x: Tensor,
    layer: nn.Linear,
    factor: Tensor | None = None,
    offset: Tensor | None = None,
    residual: Tensor | None = None,
    gelu: bool = False,
) -> Tensor:
    """``layer(x * factor + offset) + residual`` of float32 ``[B, N, C]``, behind an exact GELU if asked.

    factor: ``[B, C]``; offset: ``[C]``, always given with it; residual: ``[B, N, D]``.
    """
    batch, places, width = x.shape
    x = x.contiguous()
    out = x.new_empty((batch, places, layer.out_features))
    block = 64 if -(-places // 64) * -(-layer.out_features // 64) * batch >= ENOUGH_PROGRAMS else 32
    grid = (-(-places // block), -(-layer.out_features // block), batch)
    _linear_kernel[grid](
        x,
        layer.weight.contiguous(),
        layer.bias,
        x if factor is None else factor.contiguous(),
        x if offset is None else offset.contiguous(),
        x if residual is None else residual.contiguous(),
        out,
        places,
        layer.out_features,
        width,
        SCALED=factor is not None,
        ADD=residual is not None,
        GELU=gelu,
        BLOCK=block,
        DEPTH=32,
        num_warps=4,
        num_stages=3,
    )
    return out


if triton is not None:

    @triton.jit
    def _linear_kernel(
        x,  # [B, N, C], float32
        weight,  # [D, C], float32
        bias,  # [D], float32
        factor,  # [B, C], float32, if SCALED
        offset,  # [C], float32, if SCALED
        residual,  # [B, N, D], float32, if ADD
        out,  # [B, N, D], float32
        places,  # N
        columns,  # D
        width,  # C
        SCALED: tl.constexpr,
        ADD: tl.constexpr,
        GELU: tl.constexpr,
        BLOCK: tl.constexpr,
        DEPTH: tl.constexpr,
    ):
        # Programs: blocks of BLOCK places, blocks of BLOCK columns, pictures.
        picture = tl.program_id(2)
        row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        rows, inside = row < places, column < columns
        line = (picture * places + row).to(tl.int64)
        total = tl.zeros((BLOCK, BLOCK), tl.float32)
        for start in range(0, width, DEPTH):
            depth = start + tl.arange(0, DEPTH)
            there = depth < width
            a = tl.load(
                x + line[:, None] * width + depth[None, :], mask=rows[:, None] & there[None, :], other=0.0
            )
            if SCALED:
                a *= tl.load(factor + picture * width + depth, mask=there, other=0.0)[None, :]
                a += tl.load(offset + depth, mask=there, other=0.0)[None, :]
            where = column[None, :] * width + depth[:, None]
            b = tl.load(weight + where, mask=inside[None, :] & there[:, None], other=0.0)
            total = tl.dot(a, b, total, input_precision="tf32x3")
        total += tl.load(bias + column, mask=inside, other=0.0)[None, :]
        if GELU:
            total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
        mask = rows[:, None] & inside[None, :]
        where = line[:, None] * columns + column[None, :]
        if ADD:
            total += tl.load(residual + where, mask=mask, other=0.0)
        tl.store(out + where, total, mask=mask)
