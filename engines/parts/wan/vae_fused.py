"""Layers of Wan's autoencoder with their elementwise work fused, for 16-bit weights on a GPU with Triton.

A residual block is two convolutions and three passes: bias, norm, SiLU and the frames of the past in one, which
writes what the convolution reads, twice; bias and residual in one. (cuDNN's convolutions add a bias in a pass of its
own, at a quarter of the memory's speed.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanResidualBlock
from torch import Tensor, nn

from ...gpu.triton_support import available
from ...gpu.upsampling import small_weight
from .vae_flat import flat_weight, runs_flat
from .vae_kernels import PAST, add_rows, interleave, norm_silu


def usable(x: Tensor) -> bool:
    """Whether these functions take ``x``."""
    return x.dtype in (torch.bfloat16, torch.float16) and available(x.device)


def residual(block: WanResidualBlock, x: Tensor, cache: list[Tensor | None]) -> Tensor:
    """A residual block; ``x`` [B, C, F, h, w]; ``cache``: see `vae_steps.Step`."""
    x = _rows(x)
    bias, shortcut = block.conv2.bias, block.conv_shortcut
    h = _convolve(block.conv1, x, None, block.norm1, cache, 0)
    h = _convolve(block.conv2, h, block.conv1.bias, block.norm2, cache, 1)
    if not isinstance(shortcut, nn.Identity):
        x, bias = F.linear(x, shortcut.weight.flatten(1)), bias + shortcut.bias
    return _map(add_rows(h, x, bias))


def enter(norm: nn.Module, x: Tensor, cache: list[Tensor | None]) -> None:
    """Keep the part of ``x`` that the convolution behind ``norm`` and SiLU will see again."""
    x = _rows(x[:, :, -PAST:])
    cache[0] = _map(norm_silu(x, None, norm.gamma, _past(cache, 0, x))[1])


def upsample(layer: WanResample, x: Tensor, cache: list[Tensor | None]) -> Tensor:
    """[B, C, F, h, w] to [B, C / 2, 2 F, 2 h, 2 w], or with F frames where the layer does not change the rate.

    The first latent of a video keeps its single frame. See `upsampling` for the four sets of pixels.
    """
    x = _rows(x)
    batch = len(x)
    if layer.mode == "upsample3d":
        past = _past(cache, 0, x)
        if cache[0] is None:
            # The second latent sees zeros before it.
            kept = past
        else:
            seen = torch.cat((past, x), 1)
            kept = seen[:, -PAST:].clone()
            doubled = _rows(F.conv3d(_map(seen), layer.time_conv.weight)).unflatten(-1, (2, -1)).movedim(4, 2)
            x = torch.empty(doubled.shape, device=x.device, dtype=x.dtype)
            torch.add(doubled, layer.time_conv.bias.view(2, 1, 1, -1), out=x)
            x = x.flatten(1, 2)
        cache[0] = _map(kept)
    conv = layer.resample[1]
    sets = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), small_weight(conv.weight), padding=1)
    out = interleave(sets.permute(0, 2, 3, 1).contiguous(), conv.bias)
    return _map(out.unflatten(0, (batch, -1)))


def finish(norm: nn.Module, layer: WanCausalConv3d, x: Tensor, cache: list[Tensor | None]) -> Tensor:
    """The last norm, SiLU and convolution of a network."""
    return _map(_convolve(layer, _rows(x), None, norm, cache, 0) + layer.bias)


def _convolve(
    layer: WanCausalConv3d,
    x: Tensor,
    bias: Tensor | None,
    norm: nn.Module,
    cache: list[Tensor | None],
    slot: int,
) -> Tensor:
    """Norm, SiLU and convolution of ``x + bias`` (rows), without the layer's own bias."""
    weight = layer.weight
    flat = runs_flat(weight)
    x, kept = norm_silu(x, bias, norm.gamma, _past(cache, slot, x), stacked=flat)
    cache[slot] = _map(kept)
    if not flat:
        return _rows(F.conv3d(_map(x), weight, padding=(0, 1, 1)))
    batch = len(x)
    out = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), flat_weight(weight), padding=1)
    return out.permute(0, 2, 3, 1).unflatten(0, (batch, -1)).contiguous()


def _past(cache: list[Tensor | None], slot: int, x: Tensor) -> Tensor:
    """The two frames before ``x`` (rows); zeros at the start of a video."""
    if cache[slot] is None:
        return x.new_zeros((len(x), PAST, *x.shape[2:]))
    past = _rows(cache[slot].to(x.device))
    # Layers elsewhere keep a single frame after a video's first.
    return F.pad(past, (0, 0) * 3 + (PAST - past.shape[1], 0)) if past.shape[1] < PAST else past


def _rows(x: Tensor) -> Tensor:
    """[B, C, F, h, w] to [B, F, h, w, C]; copies nothing where the channels are last in memory."""
    return x.permute(0, 2, 3, 4, 1).contiguous()


def _map(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)
