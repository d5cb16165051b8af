"""Convolutions and norms of the VAE in another order, where torch's own kernels are slow."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from torch import Tensor, nn


def runs_flat(weight: Tensor) -> bool:
    """Whether cuDNN is faster with a 3x3x3 convolution in two dimensions, over three frames side by side.

    H200, 704x384, bfloat16: 96 channels 1.0 ms against 1.8, 384 0.35 against 0.45, but 192 1.0 against 0.82.
    """
    count = weight.shape[0]
    return weight.shape[2:] == (3, 3, 3) and (32 <= count <= 96 or count >= 384)


def flat_weight(weight: Tensor) -> Tensor:
    """[N, C, T, h, w] as [N, T C, h, w] with the channels last; copied only where memory has another order."""
    return weight.permute(0, 3, 4, 2, 1).flatten(3).permute(0, 3, 1, 2)


def speed_up_layers(model: nn.Module) -> None:
    """Let the 3-D convolutions and the norms of ``model`` run in another way where torch has no fast kernel for them.

    For float32 on a CPU, torch unfolds the input of a small 3-D convolution and multiplies matrices. With the frames
    that a kernel sees side by side as channels, the same sums are a 2-D convolution, for which it has a good kernel:
    5 to 9 times faster for 8 to 24 channels, equal but for the order of the sums. A norm over channels takes a third of
    the time as a plain sum of squares. On an NVIDIA GPU only some convolutions run so: see `runs_flat`.
    """
    for layer in model.modules():
        if type(layer) is WanRMS_norm:
            layer.__class__ = _Norm
        if isinstance(layer, nn.Conv3d) and layer.kernel_size[0] > 1 and layer.padding_mode == "zeros":
            # Bound to the layer's numbers and not to the layer, which would then refer to itself.
            layer._conv_forward = partial(
                _convolve,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
            )


class _Norm(WanRMS_norm):
    """The same norm; on the CPU the length of the channels is a sum instead of torch's slow vector norm."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or not self.channel_first:
            return super().forward(x)
        length = x.square().sum(1, keepdim=True).sqrt_().clamp_(min=1e-12)
        return x * (self.scale / length) * self.gamma + self.bias


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    plain = padding[0] == 0 and dilation[0] == 1 and groups == 1
    if plain and x.device.type == "cpu" and x.dtype == torch.float32:
        return _flat(x, weight, bias, stride, padding)
    if plain and runs_flat(weight) and x.device.type == "cuda":
        return _flat(x, weight, bias, stride, padding)
    return F.conv3d(x, weight, bias, stride, padding, dilation, groups)


def _flat(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    reach = weight.shape[2]
    frames = (x.shape[2] - reach) // stride[0] + 1
    seen = [x[:, :, i : i + stride[0] * (frames - 1) + 1 : stride[0]] for i in range(reach)]
    stacked = torch.cat([frame.transpose(1, 2).flatten(0, 1) for frame in seen], dim=1)
    if x.device.type == "cpu":
        # Twice as fast for few channels; the layers after it keep the order, so little has to be copied.
        stacked = stacked.contiguous(memory_format=torch.channels_last)
    out = F.conv2d(stacked, flat_weight(weight), bias, stride[1:], padding[1:], dilation=1)
    return out.unflatten(0, (x.shape[0], frames)).transpose(1, 2)
