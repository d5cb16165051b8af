"""Triton kernels for the work between the convolutions of Wan's autoencoder.

Maps are channels-last rows [B, F, H, W, C], contiguous. Arithmetic is float32 between load and store.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...gpu.triton_support import power_of_two, tl, triton

PAST = 2
"""Frames before its own that a causal convolution keeps, since it sees three."""
TILE, WARPS = 4096, 4  # elements and warps of a program
NORM_FLOOR = 1e-12  # as in F.normalize


def norm_silu(
    x: Tensor, bias: Tensor | None, gamma: Tensor, past: Tensor, stacked: bool = False
) -> tuple[Tensor, Tensor]:
    """SiLU of the RMS norm over the channels of ``x + bias``, behind the two frames before it.

    past: [B, 2, H, W, C], the last frames of an earlier result.

    Returns:
        [B, 2 + F, H, W, C], or ``stacked`` [B, F, H, W, 3 C]: the three frames that a causal convolution sees side by
        side. And the last two frames, in memory of their own.
    """
    batch, frames, height, width, channels = x.shape
    shape = (frames, height, width, 3 * channels) if stacked else (PAST + frames, height, width, channels)
    out = x.new_empty((batch, *shape))
    kept = x.new_empty((batch, PAST, height, width, channels))
    pixels, block = height * width, power_of_two(channels)
    rows = max(1, TILE // block)
    _norm_kernel[(triton.cdiv(pixels, rows) * (PAST + frames), batch)](
        x,
        x if bias is None else bias,
        gamma,
        past,
        out,
        kept,
        frames,
        pixels,
        channels**0.5,
        NORM_FLOOR,
        BIAS=bias is not None,
        STACKED=stacked,
        C=channels,
        BLOCK=block,
        ROWS=rows,
        num_warps=WARPS,
    )
    return out, kept


def add_rows(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """``x + y + bias`` of rows and [C]."""
    out = torch.empty_like(x)
    channels = x.shape[-1]
    count, block = x.numel() // channels, power_of_two(channels)
    rows = max(1, TILE // block)
    _add_kernel[(triton.cdiv(count, rows),)](
        x, y, bias, out, count, C=channels, BLOCK=block, ROWS=rows, num_warps=WARPS
    )
    return out


def interleave(x: Tensor, bias: Tensor) -> Tensor:
    """The four sets of pixels of maps twice as large, [B, h + 1, w + 1, 4 C], as maps [B, 2 h, 2 w, C], plus ``bias``.

    See `upsampling` for the sets.
    """
    batch, height, width, channels = x.shape
    channels //= 4
    out = x.new_empty((batch, 2 * (height - 1), 2 * (width - 1), channels))
    pixels, block = out.shape[1] * out.shape[2], power_of_two(channels)
    rows = max(1, TILE // block)
    _interleave_kernel[(triton.cdiv(pixels, rows), batch)](
        x, bias, out, pixels, height, width, C=channels, BLOCK=block, ROWS=rows, num_warps=WARPS
    )
    return out


if triton is not None:
    # Sizes are not looked at, or each kernel would be compiled anew for a video's first frame.
    @triton.jit(do_not_specialize=["frames", "pixels"])
    def _norm_kernel(
        x,  # [B, F, h, w, C]
        bias,  # [C], if BIAS
        gamma,  # [C]
        past,  # [B, 2, h, w, C]
        out,  # [B, 2 + F, h, w, C], or [B, F, h, w, 3 C] if STACKED
        kept,  # [B, 2, h, w, C]
        frames,  # F
        pixels,  # h * w
        scale,
        floor,
        BIAS: tl.constexpr,
        STACKED: tl.constexpr,
        C: tl.constexpr,
        BLOCK: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS pixels of each frame, those of the past included; videos. Each norms its pixels, or
        # takes them from the past, and writes them wherever a convolution will see them.
        # Frames that are side by side in the result are written at about the same time.
        frame = tl.program_id(0) % (frames + 2)
        pixel = tl.program_id(0) // (frames + 2) * ROWS + tl.arange(0, ROWS)
        batch = tl.program_id(1).to(tl.int64)
        channel = tl.arange(0, BLOCK)
        inside = channel < C
        mask = (pixel < pixels)[:, None] & inside[None, :]
        where = pixel[:, None] * C + channel[None, :]
        size = pixels.to(tl.int64) * C
        if frame < 2:
            result = tl.load(past + (batch * 2 + frame) * size + where, mask=mask, other=0.0)
        else:
            value = tl.load(x + (batch * frames + frame - 2) * size + where, mask=mask, other=0.0)
            value = value.to(tl.float32)
            if BIAS:
                value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
            length = tl.sqrt(tl.sum(value * value, 1))
            weight = tl.load(gamma + channel, mask=inside, other=0.0).to(tl.float32) * scale
            value = value * (1.0 / tl.maximum(length, floor))[:, None] * weight[None, :]
            result = (value / (1.0 + tl.exp(-value))).to(out.dtype.element_ty)
        if STACKED:
            spread = pixel[:, None] * (3 * C) + channel[None, :]
            for i in tl.static_range(3):
                seer = frame - i
                if (seer >= 0) & (seer < frames):
                    tl.store(out + (batch * frames + seer) * (3 * size) + i * C + spread, result, mask=mask)
        else:
            tl.store(out + (batch * (frames + 2) + frame) * size + where, result, mask=mask)
        if frame >= frames:
            tl.store(kept + (batch * 2 + frame - frames) * size + where, result, mask=mask)

    @triton.jit(do_not_specialize=["count"])
    def _add_kernel(
        x,  # [count, C]
        y,  # [count, C]
        bias,  # [C]
        out,  # [count, C]
        count,
        C: tl.constexpr,
        BLOCK: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS pixels.
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        channel = tl.arange(0, BLOCK)
        inside = channel < C
        mask = (row < count)[:, None] & inside[None, :]
        where = row.to(tl.int64)[:, None] * C + channel[None, :]
        value = tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
        value += tl.load(y + where, mask=mask, other=0.0).to(tl.float32)
        value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
        tl.store(out + where, value.to(out.dtype.element_ty), mask=mask)

    @triton.jit(do_not_specialize=["pixels", "height", "width"])
    def _interleave_kernel(
        x,  # [B, height, width, 4 C]
        bias,  # [C]
        out,  # [B, 2 (height - 1), 2 (width - 1), C]
        pixels,  # of a map of out
        height,
        width,
        C: tl.constexpr,
        BLOCK: tl.constexpr,
        ROWS: tl.constexpr,
    ):
        # Programs: blocks of ROWS pixels of the large map, maps. Each fetches its pixels from the sets that they belong
        # to.
        pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        batch = tl.program_id(1).to(tl.int64)
        channel = tl.arange(0, BLOCK)
        inside = channel < C
        mask = (pixel < pixels)[:, None] & inside[None, :]
        wide = 2 * (width - 1)
        row, column = pixel // wide, pixel % wide
        i, j = row % 2, column % 2
        place = ((row // 2 + i) * width + column // 2 + j) * (4 * C) + (2 * i + j) * C
        start = x + batch * (height.to(tl.int64) * width * (4 * C))
        value = tl.load(start + place[:, None] + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
        where = batch * (pixels.to(tl.int64) * C) + pixel[:, None] * C + channel[None, :]
        tl.store(out + where, value.to(out.dtype.element_ty), mask=mask)
