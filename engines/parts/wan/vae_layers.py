"""Leaner ways through diffusers' layers of Wan's autoencoder; what they compute stays the same."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanRMS_norm
from torch import Tensor, nn

from ...gpu.swap import StandIn, Table
from .vae_flat import flat_convolution, runs_flat


class CausalConv(StandIn, WanCausalConv3d):
    """A causal convolution without a padded copy of its input, in two dimensions where that is faster."""

    def prepare(self) -> None:
        """Let the convolution add the zeros around each frame by itself."""
        width, _, height, _, *time = self._padding
        self.padding, self._padding = (0, height, width), (0, 0, 0, 0, *time)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device = x.device.type
        faster = runs_flat(weight) if device == "cuda" else device == "cpu" and x.dtype == torch.float32
        if self.kernel_size[0] > 1 and faster:
            return flat_convolution(x, weight, bias, self.stride, self.padding)
        return super()._conv_forward(x, weight, bias)


class Norm(StandIn, WanRMS_norm):
    """On a CPU the length of the channels is a sum of squares, which takes a third of the time of torch's norm."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, F, h, w], or [B, C, h, w]."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or not self.channel_first:
            return super().forward(x)
        length = x.square().sum(1, keepdim=True).sqrt_().clamp_(min=1e-12)
        return x * (self.scale / length) * self.gamma + self.bias


class Upsample(StandIn, WanResample):
    """Up-sampling in time and space that keeps nothing but tensors in the cache."""

    @classmethod
    def fits(cls, layer: WanResample) -> bool:
        """Whether it changes the rate and makes maps larger."""
        return layer.mode == "upsample3d"

    def forward(self, x: Tensor, feat_cache: list | None = None, feat_idx: list[int] | None = None) -> Tensor:
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
                doubled = self.time_conv(x, past).unflatten(1, (2, -1))
                x = torch.stack(doubled.unbind(1), 3).flatten(2, 3)
        frames = x.shape[2]
        x = self.resample(x.transpose(1, 2).flatten(0, 1))
        return x.unflatten(0, (-1, frames)).transpose(1, 2)


LAYERS: Table = {WanCausalConv3d: CausalConv, WanRMS_norm: Norm, WanResample: Upsample}
"""Stand-ins for Wan's autoencoder, wherever it runs."""


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
