"""Triton kernels for feature maps between convolutions, which know what a group norm needs next.

Maps are channels-last ``[B, C, h, w]``. Whatever kernel writes a map adds up its channels on the way, so that the
group norm behind it need not read the map for that. The sums travel with the map as its attribute
``channel_sums``: ``[B, parts, 2, C]``, float32, sums and sums of squares over parts of the pixels. A map that has
them is never changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .triton_support import power_of_two, tl, triton

TILE = 4096  # elements that a program holds at a time
PROGRAMS = 528  # enough to fill the largest GPUs
STAGES = 3  # tiles that are on their way while one is added up
APPLY_ROWS = 32
PARTS = 64  # partial sums that the finishing kernel reads at a time
GROUPS = 4  # groups of a program of the finishing kernel, a power of two


class Raise(NamedTuple):
    """Numbers that a norm's input is raised by: ``each`` ``[B, C]`` and ``all`` ``[C]``; either may be missing."""

    each: Tensor | None = None
    all: Tensor | None = None


def add_maps(x: Tensor, y: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """``x + y + bias`` of maps and ``[C]``, with its sums."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    y = None if y is None else y.contiguous(memory_format=torch.channels_last)
    out.channel_sums = _add_and_sum(x, y, bias, out)
    return out


def spread_pixels(pixels: Tensor, bias: Tensor) -> Tensor:
    """The four sets of pixels ``[B, 4 C, h + 1, w + 1]`` as the large map ``[B, C, 2 h, 2 w]`` plus ``bias`` ``[C]``,
    with its sums.

    See `upsampling` for the sets.
    """
    batch, channels, height, width = pixels.shape
    channels, height, width = channels // 4, 2 * (height - 1), 2 * (width - 1)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    out = pixels.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    grid, block, rows = _grid(batch, height * width, channels)
    partial = torch.empty((batch, grid[1], 2, channels), device=out.device, dtype=torch.float32)
    _spread_kernel[grid](
        pixels,
        bias,
        out,
        partial,
        height * width,
        width,
        channels,
        grid[1],
        ROWS=rows,
        CHANNELS=block,
        STAGES=STAGES,
        num_warps=4,
    )
    out.channel_sums = partial
    return out


def norm_maps(
    parts: Sequence[Tensor], norm: nn.GroupNorm, add: Raise | None = None, silu: bool = False
) -> Tensor:
    """Group norm of one or two maps that lie side by side in channels, as one map; statistics in float32.

    add: what is added to the input before, free of charge. silu: whether SiLU follows.
    """
    first, *rest = [part.contiguous(memory_format=torch.channels_last) for part in parts]
    batch, _, height, width = first.shape
    channels = sum(part.shape[1] for part in parts)
    tables = _scales_and_shifts(first, rest[0] if rest else None, norm, add or Raise())
    out = first.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    place = 0
    for part in (first, *rest):
        end = place + part.shape[1]
        _apply(part, tables[..., place:end], out[:, place:end], "silu" if silu else "")
        place = end
    return out


def scale_and_rectify(x: Tensor, tables: Tensor, residual: Tensor | None = None) -> Tensor:
    """``relu(x * scale + shift + residual)`` with float32 tables ``[2, C]``."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    _apply(x, tables[:, None].expand(-1, len(x), -1), out, "relu", residual)
    return out


def _scales_and_shifts(first: Tensor, second: Tensor | None, norm: nn.GroupNorm, add: Raise) -> Tensor:
    """``[2, B, C]``: what normed maps are multiplied by, and what is added then."""
    sums = [_sums(part) for part in (first, second) if part is not None]
    batch, _, height, width = first.shape
    channels = sum(part.shape[-1] for part in sums)
    tables = torch.empty((2, batch, channels), device=first.device, dtype=torch.float32)
    _finish_kernel[(batch, -(-norm.num_groups // GROUPS))](
        sums[0],
        sums[-1],
        sums[0].shape[1],
        sums[-1].shape[1],
        sums[0].shape[-1],
        sums[-1].shape[-1],
        sums[0] if add.each is None else add.each,
        sums[0] if add.all is None else add.all,
        norm.weight,
        norm.bias,
        tables,
        channels,
        height * width,
        norm.eps,
        norm.num_groups,
        TWO=second is not None,
        EACH=add.each is not None,
        ALL=add.all is not None,
        WIDTH=channels // norm.num_groups,
        WIDTH_PAD=power_of_two(channels // norm.num_groups),
        GROUPS=GROUPS,
        PARTS=PARTS,
        num_warps=4,
    )
    return tables


def _sums(x: Tensor) -> Tensor:
    known = getattr(x, "channel_sums", None)
    return _add_and_sum(x, None, None, None) if known is None else known


def _add_and_sum(x: Tensor, y: Tensor | None, bias: Tensor | None, out: Tensor | None) -> Tensor:
    batch, channels, height, width = x.shape
    grid, block, rows = _grid(batch, height * width, channels)
    partial = torch.empty((batch, grid[1], 2, channels), device=x.device, dtype=torch.float32)
    _sum_kernel[grid](
        x,
        x if y is None else y,
        x if bias is None else bias,
        x if out is None else out,
        partial,
        height * width,
        channels,
        grid[1],
        ADD=y is not None,
        BIAS=bias is not None,
        WRITE=out is not None,
        ROWS=rows,
        CHANNELS=block,
        STAGES=STAGES,
        num_warps=4,
    )
    return partial


def _apply(x: Tensor, tables: Tensor, out: Tensor, act: str, residual: Tensor | None = None) -> None:
    batch, channels, height, width = x.shape
    block = _channel_block(channels)
    _apply_kernel[(batch, -(-height * width // APPLY_ROWS), -(-channels // block))](
        x,
        tables[0],
        tables[1],
        x if residual is None else residual.contiguous(memory_format=torch.channels_last),
        out,
        height * width,
        channels,
        tables.stride(1),
        out.stride(3),
        ADD=residual is not None,
        ACT=act,
        ROWS=APPLY_ROWS,
        CHANNELS=block,
        num_warps=4,
    )


def _grid(batch: int, pixels: int, channels: int) -> tuple[tuple[int, int, int], int, int]:
    """Pictures, parts and blocks of channels; the size of a block, and rows of a tile. Every part has as many tiles as
    the next, the last one at most as many."""
    block = _channel_block(channels)
    rows = TILE // block
    blocks, tiles = -(-channels // block), -(-pixels // rows)
    each = -(-tiles // max(1, PROGRAMS // (batch * blocks)))
    return (batch, -(-tiles // each), blocks), block, rows


def _channel_block(channels: int) -> int:
    for block in (128, 64):
        if channels % block == 0:
            return block
    return min(128, power_of_two(channels))


if triton is not None:

    @triton.jit
    def _keep_sums(
        total,  # [ROWS, CHANNELS]
        squares,  # [ROWS, CHANNELS]
        partial,  # [B, parts, 2, C], float32
        part,
        parts,
        channel,
        inside,
        channels,
    ):
        place = partial + ((tl.program_id(0) * parts + part) * 2).to(tl.int64) * channels + channel
        tl.store(place, tl.sum(total, 0), mask=inside)
        tl.store(place + channels, tl.sum(squares, 0), mask=inside)

    @triton.jit
    def _sum_kernel(
        x,  # [B, h, w, C]
        y,  # [B, h, w, C], if ADD
        bias,  # [C], if BIAS
        out,  # [B, h, w, C], if WRITE
        partial,  # [B, parts, 2, C], float32
        pixels,  # h * w
        channels,  # C
        parts,
        ADD: tl.constexpr,
        BIAS: tl.constexpr,
        WRITE: tl.constexpr,
        ROWS: tl.constexpr,
        CHANNELS: tl.constexpr,
        STAGES: tl.constexpr,
    ):
        # Programs: pictures, parts of the pixels, blocks of channels. Each adds up its pixels tile by tile, those of
        # other parts in between, and keeps sums of what it has written.
        part = tl.program_id(1)
        channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
        inside = channel < channels
        start = tl.program_id(0).to(tl.int64) * pixels * channels
        total = tl.zeros((ROWS, CHANNELS), tl.float32)
        squares = tl.zeros((ROWS, CHANNELS), tl.float32)
        if BIAS:
            more = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
        for block in tl.range(part * ROWS, pixels, parts * ROWS, num_stages=STAGES):
            pixel = block + tl.arange(0, ROWS)
            mask = (pixel < pixels)[:, None] & inside[None, :]
            where = start + pixel[:, None] * channels + channel[None, :]
            value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
            if ADD:
                value += tl.load(y + where, mask=mask, other=0.0).to(tl.float32)
            if BIAS:
                value += more
            if WRITE:
                rounded = value.to(out.dtype.element_ty)
                tl.store(out + where, rounded, mask=mask)
                value = tl.where(mask, rounded.to(tl.float32), 0.0)
            total += value
            squares += value * value
        _keep_sums(total, squares, partial, part, parts, channel, inside, channels)

    @triton.jit
    def _spread_kernel(
        x,  # [B, h / 2 + 1, w / 2 + 1, 4 C]
        bias,  # [C]
        out,  # [B, h, w, C]
        partial,  # [B, parts, 2, C], float32
        pixels,  # h * w
        width,  # w
        channels,  # C
        parts,
        ROWS: tl.constexpr,
        CHANNELS: tl.constexpr,
        STAGES: tl.constexpr,
    ):
        # Programs as in `_sum_kernel`. Each fetches the pixels of the large map from the corners that they were made
        # for.
        picture = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
        inside = channel < channels
        wide = width // 2 + 1
        small = pixels // width // 2 + 1
        more = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
        total = tl.zeros((ROWS, CHANNELS), tl.float32)
        squares = tl.zeros((ROWS, CHANNELS), tl.float32)
        for block in tl.range(part * ROWS, pixels, parts * ROWS, num_stages=STAGES):
            pixel = block + tl.arange(0, ROWS)
            mask = (pixel < pixels)[:, None] & inside[None, :]
            row, column = pixel // width, pixel % width
            source = (picture * small + row // 2 + row % 2) * wide + column // 2 + column % 2
            corner = row % 2 * 2 + column % 2
            where = (source * 4 + corner)[:, None] * channels + channel[None, :]
            value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32) + more
            rounded = value.to(out.dtype.element_ty)
            where = picture * pixels * channels + pixel[:, None] * channels + channel[None, :]
            tl.store(out + where, rounded, mask=mask)
            value = tl.where(mask, rounded.to(tl.float32), 0.0)
            total += value
            squares += value * value
        _keep_sums(total, squares, partial, part, parts, channel, inside, channels)

    @triton.jit
    def _add_parts(
        total,  # [CHANNELS]
        squares,  # [CHANNELS]
        partial,  # [B, parts, 2, C], float32
        parts,
        channel,
        inside,
        channels,
        PARTS: tl.constexpr,
    ):
        start = partial + tl.program_id(0).to(tl.int64) * parts * 2 * channels
        for block in range(0, parts, PARTS):
            part = block + tl.arange(0, PARTS)
            mask = (part < parts)[:, None] & inside[None, :]
            where = part[:, None] * 2 * channels + channel[None, :]
            total += tl.sum(tl.load(start + where, mask=mask, other=0.0), 0)
            squares += tl.sum(tl.load(start + channels + where, mask=mask, other=0.0), 0)
        return total, squares

    @triton.jit
    def _of_its_group(value, GROUPS: tl.constexpr, WIDTH_PAD: tl.constexpr):
        grouped = tl.sum(tl.reshape(value, (GROUPS, WIDTH_PAD)), 1)
        spread = tl.broadcast_to(grouped[:, None], (GROUPS, WIDTH_PAD))
        return tl.reshape(spread, (GROUPS * WIDTH_PAD,))

    @triton.jit
    def _finish_kernel(
        first,  # [B, first_parts, 2, first_channels], float32
        second,  # [B, second_parts, 2, second_channels], float32, if TWO
        first_parts,
        second_parts,
        first_channels,
        second_channels,
        each,  # [B, C], if EACH
        all_,  # [C], if ALL
        weight,  # [C]
        bias,  # [C]
        tables,  # [2, B, C], float32
        channels,  # C, of both maps
        pixels,  # h * w
        eps,
        groups,
        TWO: tl.constexpr,
        EACH: tl.constexpr,
        ALL: tl.constexpr,
        WIDTH: tl.constexpr,
        WIDTH_PAD: tl.constexpr,
        GROUPS: tl.constexpr,
        PARTS: tl.constexpr,
    ):
        # Programs: pictures, blocks of GROUPS groups. Each makes the statistics of its groups from its channels' sums,
        # and a scale and a shift for every channel from these.
        picture = tl.program_id(0)
        offset = tl.arange(0, GROUPS * WIDTH_PAD)
        group = tl.program_id(1) * GROUPS + offset // WIDTH_PAD
        channel = group * WIDTH + offset % WIDTH_PAD
        inside = (offset % WIDTH_PAD < WIDTH) & (group < groups)
        total = tl.zeros((GROUPS * WIDTH_PAD,), tl.float32)
        squares = tl.zeros((GROUPS * WIDTH_PAD,), tl.float32)
        total, squares = _add_parts(
            total,
            squares,
            first,
            first_parts,
            channel,
            inside & (channel < first_channels),
            first_channels,
            PARTS,
        )
        if TWO:
            other = channel - first_channels
            total, squares = _add_parts(
                total, squares, second, second_parts, other, inside & (other >= 0), second_channels, PARTS
            )
        raised = tl.zeros((GROUPS * WIDTH_PAD,), tl.float32)
        if EACH:
            raised += tl.load(each + picture * channels + channel, mask=inside, other=0.0).to(tl.float32)
        if ALL:
            raised += tl.load(all_ + channel, mask=inside, other=0.0).to(tl.float32)
        if EACH or ALL:  # what the sums become when every pixel of a channel is raised by the same
            squares += raised * (2.0 * total + pixels * raised)
            total += pixels * raised
        count = (pixels * WIDTH).to(tl.float32)
        mean = _of_its_group(total, GROUPS, WIDTH_PAD) / count
        variance = tl.maximum(_of_its_group(squares, GROUPS, WIDTH_PAD) / count - mean * mean, 0.0)
        scale = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
        shift = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) + (raised - mean) * scale
        place = tables + picture * channels + channel
        tl.store(place, scale, mask=inside)
        tl.store(place + tl.num_programs(0) * channels, shift, mask=inside)

    @triton.jit
    def _apply_kernel(
        x,  # [B, h, w, C]
        scale,  # [B, C], float32, rows table_stride apart
        shift,  # like scale
        residual,  # [B, h, w, C], if ADD
        out,  # [B, h, w, C], pixels out_stride apart
        pixels,  # h * w
        channels,  # C
        table_stride,
        out_stride,
        ADD: tl.constexpr,
        ACT: tl.constexpr,
        ROWS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        # Programs: pictures, blocks of pixels, blocks of channels. Each writes act(x * scale + shift + residual).
        picture = tl.program_id(0).to(tl.int64)
        pixel = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
        inside = channel < channels
        mask = (pixel < pixels)[:, None] & inside[None, :]
        where = (picture * pixels + pixel)[:, None]
        value = tl.load(x + where * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        a = tl.load(scale + picture * table_stride + channel, mask=inside, other=0.0)
        b = tl.load(shift + picture * table_stride + channel, mask=inside, other=0.0)
        result = value * a[None, :] + b[None, :]
        if ADD:
            result += tl.load(residual + where * channels + channel[None, :], mask=mask, other=0.0).to(
                tl.float32
            )
        if ACT == "relu":
            result = tl.maximum(result, 0.0)
        if ACT == "silu":
            result = result / (1.0 + tl.exp(-result))
        tl.store(out + where * out_stride + channel[None, :], result.to(out.dtype.element_ty), mask=mask)
