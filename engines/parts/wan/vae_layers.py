"""Leaner ways through diffusers' layers of Wan's autoencoder; what they compute stays the same."""

from __future__ import annotations

from functools import partial

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from torch import Tensor, nn

from .vae_flat import runs_flat


def simplify_layers(model: nn.Module) -> None:
    """Spare the layers of ``model`` a padded copy of each input; keep nothing but tensors in caches."""
    for layer in model.modules():
        if isinstance(layer, WanCausalConv3d) and any(layer._padding[:4]):
            # In space the convolution adds the same zeros by itself.
            width, _, height, _, *time = layer._padding
            layer.padding, layer._padding = (0, height, width), (0, 0, 0, 0, *time)
        elif isinstance(layer, WanResample) and layer.mode == "upsample3d":
            # Bound to the layers inside and not to the layer, which would then refer to itself.
            layer.forward = partial(_upsample, time_conv=layer.time_conv, resample=layer.resample)


def lay_out_for_gpu(model: nn.Module) -> None:
    """Store the weights of convolutions in the order that cuDNN reads; costs nothing where they already are."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            # The channels last, or, to run in two dimensions, those of the three frames side by side.
            order = (0, 3, 4, 2, 1) if runs_flat(layer.weight) else (0, 2, 3, 4, 1)
            back = [order.index(i) for i in range(5)]
            layer.weight.data = layer.weight.data.permute(order).contiguous().permute(back)
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def _upsample(
    x: Tensor,
    feat_cache: list | None = None,
    feat_idx: list[int] | None = None,
    *,
    time_conv: nn.Module,
    resample: nn.Module,
) -> Tensor:
    """[B, C, F, h, w] -> [B, C / 2, 2 F, 2 h, 2 w]; the first latent of a video keeps its single frame."""
    if feat_cache is not None:
        index = feat_idx[0]
        feat_idx[0] += 1
        past = feat_cache[index]
        if past is None:
            # The second latent sees zeros before it. diffusers marks this by a string, which could not be saved.
            feat_cache[index] = torch.zeros_like(x[:, :, :1]).repeat(1, 1, 2, 1, 1)
        else:
            feat_cache[index] = torch.cat((past, x), 2)[:, :, -2:].clone()
            doubled = time_conv(x, past).unflatten(1, (2, -1))
            x = torch.stack(doubled.unbind(1), 3).flatten(2, 3)
    frames = x.shape[2]
    x = resample(x.transpose(1, 2).flatten(0, 1))
    return x.unflatten(0, (-1, frames)).transpose(1, 2)
