"""Convolutions with what follows them, as the renderer's checkpoints have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A convolution of ``[B, C, h, w]`` or ``[B, C, d, h, w]`` and its batch norm."""

    def __init__(self, dimensions: int, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = conv(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def folded(self) -> nn.Module:
        """One convolution that computes the same."""
        return fold_norm(self.conv, self.norm)


def fold_norm(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """One convolution in place of a convolution and a batch norm in evaluation; multiplied in float64."""
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    weight = conv.weight.double() * scale.view(-1, *(1,) * (conv.weight.dim() - 1))
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    kind = type(conv)
    result = kind(
        conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, device=conv.weight.device
    )
    return set_weights(result, weight, bias, conv.weight.dtype)


class SpectralConv(nn.Module):
    """A convolution of ``[B, C, h, w]`` whose weight is divided by its largest singular value.

    The checkpoint keeps the weight undivided, beside the two vectors of power iteration that give the value.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        super().__init__()
        self.weight_orig = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.register_buffer("weight_u", torch.empty(outputs))
        self.register_buffer("weight_v", torch.empty(inputs * kernel * kernel))

    def weight(self) -> Tensor:
        """The weight that is used ``[N, C, k, k]``, in float32 at least.

        Its divisor is summed in float64: sums in float32 differ with the place of the weights in memory.
        """
        rows = self.weight_orig.flatten(1).double()
        largest = torch.dot(self.weight_u.double(), rows @ self.weight_v.double())
        return self.weight_orig / largest.to(self.weight_orig.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(), self.bias, padding=self.weight_orig.shape[-1] // 2)

    def folded(self) -> nn.Module:
        """The plain convolution."""
        outputs, inputs, kernel, _ = self.weight_orig.shape
        result = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            padding=kernel // 2,
            bias=self.bias is not None,
            device=self.weight_orig.device,
        )
        return set_weights(result, self.weight(), self.bias, self.weight_orig.dtype)


@torch.no_grad()
def set_weights(layer: nn.Module, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Module:
    """``layer`` with these weights, in ``dtype``, ready for inference."""
    layer.weight = nn.Parameter(weight.to(dtype).contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(dtype).contiguous(), requires_grad=False)
    return layer.eval()
