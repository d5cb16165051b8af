"""FlashAttention-4, where a user has installed it (``pip install flash-attn-4``, NVIDIA Hopper or newer)."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...gpu.generation import HOPPER, generation
from ...gpu.trial import passes, require_close

Product = Callable[[Tensor, Tensor, Tensor], Tensor]

MOST_ERROR = 0.02
"""Relative error that a trial's result may have."""


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's own product; all tensors [B, tokens, heads, head_dim]."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


@functools.cache
def flash_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> Product | None:
    """FlashAttention-4's product, or None where it cannot be used.

    Before its first use it has to agree with PyTorch on random values: a broken installation is named in the log and
    left alone.
    """
    if generation(device) < HOPPER or dtype not in (torch.bfloat16, torch.float16) or not _installed():
        return None

    complaint = "LiveAvatar: FlashAttention-4 is installed but not used: %s"
    return _product() if passes(partial(_try, device, dtype, head_dim), complaint) else None


def _try(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    """Run it on random values; RuntimeError unless it agrees with PyTorch."""
    tokens = [torch.randn(1, 384, 2, head_dim, device=device, dtype=dtype) for _ in range(3)]
    require_close(_product()(*tokens), plain(*tokens), MOST_ERROR)


def _product() -> Product:
    function = importlib.import_module("flash_attn.cute").flash_attn_func

    def product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = function(q, k, v)
        return out[0] if isinstance(out, tuple) else out

    return product


def _installed() -> bool:
    try:
        return importlib.util.find_spec("flash_attn.cute") is not None
    except ModuleNotFoundError:  # no flash_attn at all
        return False
