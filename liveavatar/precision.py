"""In which number format a layer runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def run(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Call a leaf layer in float32 where its weights are float32, else in ``dtype``; the result is left so.

    A loader may keep sensitive layers in float32. The layer may also be a host's own (quantised, off-loaded,
    patched): its weight's dtype then says nothing about the arithmetic, which follows the input.
    """
    return layer(x.float() if layer.weight.dtype == torch.float32 else x.to(dtype))


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm without parameters over the last axis, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps)
