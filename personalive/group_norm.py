"""Group norm that stays in channels-last order.

PyTorch's CUDA kernel works on contiguous maps only, so that every norm between channels-last convolutions
costs two transpositions. Here sums are taken per channel, which reads whole rows, and combined to groups
afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

ROWS = 32  # pixels that a program handles at a time
CHANNELS = 128  # and channels
PROGRAMS = 2112  # enough for every multiprocessor of the largest GPUs, several times over


class ChannelsLastGroupNorm(nn.GroupNorm):
    """A drop-in ``nn.GroupNorm`` for inference; the CPU and maps in another order take PyTorch's way."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]``."""
        usable = x.is_cuda and triton is not None and x.is_contiguous(memory_format=torch.channels_last)
        if not usable or torch.is_grad_enabled():
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return channels_last_group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def use_channels_last_norms(module: nn.Module) -> nn.Module:
    """Turn every ``nn.GroupNorm`` in a module into :class:`ChannelsLastGroupNorm`, in place, with its
    weights."""
    for child in module.modules():
        if type(child) is nn.GroupNorm:
            child.__class__ = ChannelsLastGroupNorm
    return module


def use_plain_norms(module: nn.Module) -> nn.Module:
    """Undo :func:`use_channels_last_norms`."""
    for child in module.modules():
        if type(child) is ChannelsLastGroupNorm:
            child.__class__ = nn.GroupNorm
    return module


def channels_last_group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    add: Tensor | None = None,
    silu: bool = False,
) -> Tensor:
    """Group norm of a channels-last ``[B, C, h, w]``, statistics in float32, result in the order and type of
    x.

    add: ``[B, C]`` or ``[C]``, what is added to x before. silu: whether SiLU follows. Neither costs a pass of
    its own.
    """
    rows = x.permute(0, 2, 3, 1).flatten(1, 2)
    batch, pixels, channels = rows.shape
    compiling = torch.compiler.is_compiling()
    if compiling:
        values = rows.float()
        sums = torch.stack([values.sum(1), values.square().sum(1)], 1)
    else:
        sums = _channel_sums(rows)
    if add is not None:  # what the sums become when every pixel of a channel is raised by the same
        raised = add.float().expand(batch, channels)
        total, squares = sums.unbind(1)
        sums = torch.stack([total + pixels * raised, squares + raised * (2 * total + pixels * raised)], 1)
    grouped = sums.view(batch, 2, groups, channels // groups).sum(-1) / (pixels * (channels // groups))
    mean, square = grouped.unbind(1)
    scale = (square - mean.square()).clamp(min=0).add(eps).rsqrt()
    spread = (batch, groups, channels // groups)
    scale = scale[..., None].expand(spread).reshape(batch, channels) * weight.float()
    shift = bias.float() - mean[..., None].expand(spread).reshape(batch, channels) * scale
    if add is not None:
        shift = shift + raised * scale
    if compiling:
        out = rows.float() * scale[:, None] + shift[:, None]
        out = (F.silu(out) if silu else out).to(x.dtype)
    else:
        out = _scale_and_shift(rows, scale, shift, silu)
    return out.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)


def _channel_sums(rows: Tensor) -> Tensor:
    """Sums and sums of squares ``[B, 2, C]`` over the pixels of ``[B, pixels, C]``."""
    batch, pixels, channels = rows.shape
    block = _power_of_two(min(channels, CHANNELS))
    blocks = -(-channels // block)
    parts = max(1, min(-(-PROGRAMS // (batch * blocks)), -(-pixels // ROWS)))
    partial = torch.empty((batch, parts, 2, channels), device=rows.device, dtype=torch.float32)
    _sum_kernel[(batch, parts, blocks)](
        rows,
        partial,
        pixels,
        channels,
        parts,
        ROWS=ROWS,
        CHANNELS=block,
        num_warps=4,
    )
    return partial.sum(1)


def _scale_and_shift(rows: Tensor, scale: Tensor, shift: Tensor, silu: bool) -> Tensor:
    batch, pixels, channels = rows.shape
    out = torch.empty_like(rows)
    block = _power_of_two(min(channels, CHANNELS))
    _apply_kernel[(batch, -(-pixels // ROWS), -(-channels // block))](
        rows,
        scale,
        shift,
        out,
        pixels,
        channels,
        SILU=silu,
        ROWS=ROWS,
        CHANNELS=block,
        num_warps=4,
    )
    return out


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


if triton is not None:

    @triton.jit
    def _sum_kernel(rows, partial, pixels, channels, parts, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
        picture = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
        inside = channel < channels
        start = rows + picture * pixels * channels + channel[None, :]
        total = tl.zeros((ROWS, CHANNELS), tl.float32)
        squares = tl.zeros((ROWS, CHANNELS), tl.float32)
        for block in range(part * ROWS, pixels, parts * ROWS):
            pixel = block + tl.arange(0, ROWS)
            mask = (pixel < pixels)[:, None] & inside[None, :]
            value = tl.load(start + pixel[:, None] * channels, mask=mask, other=0.0).to(tl.float32)
            total += value
            squares += value * value
        place = partial + ((picture * parts + part) * 2) * channels + channel
        tl.store(place, tl.sum(total, 0), mask=inside)
        tl.store(place + channels, tl.sum(squares, 0), mask=inside)

    @triton.jit
    def _apply_kernel(
        rows,
        scale,
        shift,
        out,
        pixels,
        channels,
        SILU: tl.constexpr,
        ROWS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        picture = tl.program_id(0).to(tl.int64)
        pixel = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
        inside = channel < channels
        mask = (pixel < pixels)[:, None] & inside[None, :]
        where = picture * pixels * channels + pixel[:, None] * channels + channel[None, :]
        value = tl.load(rows + where, mask=mask, other=0.0).to(tl.float32)
        a = tl.load(scale + picture * channels + channel, mask=inside, other=0.0)
        b = tl.load(shift + picture * channels + channel, mask=inside, other=0.0)
        result = value * a[None, :] + b[None, :]
        if SILU:
            result = result / (1.0 + tl.exp(-result))
        tl.store(out + where, result.to(out.dtype.element_ty), mask=mask)
