"""FlashAttention-4, where a user has installed it (``pip install flash-attn-4``, NVIDIA Hopper or newer)."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor, Tensor, Tensor], Tensor]

CAPABILITY = 9


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
    usable = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if not usable or torch.version.hip or torch.cuda.get_device_capability(device)[0] < CAPABILITY:
        return None
    if not _installed():
        return None
    try:
        function = importlib.import_module("flash_attn.cute").flash_attn_func

        def product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out = function(q, k, v)
            return out[0] if isinstance(out, tuple) else out

        tokens = [torch.randn(1, 384, 2, head_dim, device=device, dtype=dtype) for _ in range(3)]
        expected = plain(*tokens).float()
        error = float((product(*tokens).float() - expected).norm() / expected.norm())
        if error > 0.02:
            raise RuntimeError(f"its result is off by {error:.1%}")
    except Exception as problem:  # whatever a beta version may raise
        logging.warning("LiveAvatar: FlashAttention-4 is installed but not used: %s", problem)
        return None
    return product


def _installed() -> bool:
    try:
        return importlib.util.find_spec("flash_attn.cute") is not None
    except ModuleNotFoundError:  # no flash_attn at all
        return False
