"""In which number format a layer runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def short(dtype: torch.dtype) -> str:
    """A number format as people call it."""
    return _SHORT.get(dtype, str(dtype).removeprefix("torch."))


class CastLayer(nn.Module):
    """A layer that computes in ``dtype`` although its weights are stored in another format.

    Args:
        layer: the layer whose weights are used.
        forward: how to call it so that it casts its weights to the dtype of its input.
    """

    def __init__(self, layer: nn.Module, forward: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x.to(self.dtype))


def input_dtype(layer: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """In what a leaf layer of a model computes: float32 where its weights are float32, else ``dtype``.

    A loader may keep sensitive layers in float32. The layer may also be a host's own (quantised, off-loaded,
    patched): its weight's dtype then says nothing about the arithmetic, which follows the input.
    """
    if isinstance(layer, CastLayer):
        return layer.dtype
    return torch.float32 if layer.weight.dtype == torch.float32 else dtype


def run(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Call a leaf layer in its `input_dtype`; the result is left so."""
    return layer(x.to(input_dtype(layer, dtype)))


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm without parameters over the last axis, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps)
