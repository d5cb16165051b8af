"""The elementwise work between matrix products and attention, as functions that choose by their tensor.

Run by PyTorch, each operation goes through memory once or more; where Triton works, `row_kernels` has the same
functions as one kernel each. The layers themselves stay outside: they may be a host's own (quantised, patched).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..gpu import row_kernels
from ..gpu.row_kernels import Rows, Sum
from ..gpu.triton_support import available
from .precision import layer_norm
from .wan import rope


def add(x: Tensor | Sum, y: Tensor, gate: Tensor | None = None) -> Tensor | Sum:
    """The residual stream ``x`` [1, tokens, dim] and ``y * gate``, or ``y``, in float32.

    The kernel leaves it a `Sum`, to be read by the functions below.
    """
    if available(x.device):
        return row_kernels.add(x, y, gate)
    y = y.float()
    return x.float() + (y if gate is None else y * gate)


def total(x: Tensor | Sum, dtype: torch.dtype) -> Tensor:
    """The residual stream in ``dtype``."""
    return row_kernels.total(x, dtype) if available(x.device) else x.to(dtype)


def modulate(
    x: Tensor | Sum, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype | None
) -> Tensor | Rows:
    """Layer norm of ``x``, scaled and shifted by vectors [dim]; computed in float32, returned in ``dtype``.

    Here and below a ``dtype`` of None makes float8 `Rows`, where there are kernels.
    """
    if available(x.device):
        return row_kernels.modulate(x, shift, scale, eps, dtype)
    return (layer_norm(x, eps) * (1 + scale) + shift).to(dtype)


def norm(
    x: Tensor | Sum, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype | None
) -> Tensor | Rows:
    """Layer norm with ``weight`` and ``bias`` [dim]; computed in float32, returned in ``dtype``."""
    if available(x.device):
        return row_kernels.norm(x, weight, bias, eps, dtype)
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), eps).to(dtype)


def head_norm(
    x: Tensor, weights: Tensor, eps: float, heads: int, rotation: rope.Rotation | None = None
) -> Tensor:
    """RMS norm of every head of the first n parts of ``x`` [B, tokens, parts * dim], with ``weights`` [n, head_dim];
    then turned, if asked, for a B of 1: [n, B, tokens, heads, head_dim]."""
    if available(x.device):
        rows = row_kernels.head_norm(x.flatten(0, 1), weights, eps, heads, rotation)
        return rows.unflatten(1, x.shape[:2])
    n, width = weights.shape
    parts = x[..., : n * heads * width].unflatten(-1, (n, heads, width)).movedim(2, 0)
    normed = F.rms_norm(parts.float(), (width,), eps=eps).to(x.dtype)
    normed = normed * weights.to(x.dtype)[:, None, None, None]
    if rotation is None:
        return normed
    return torch.stack([rope.rotate(part, rotation) for part in normed])


def swiglu(a: Tensor, b: Tensor, dtype: torch.dtype | None) -> Tensor | Rows:
    """``silu(a) * b``, both [B, tokens, width], in ``dtype``."""
    if available(a.device):
        return row_kernels.swiglu(a, b, dtype)
    return F.silu(a).mul_(b).to(dtype)


def modulate_speech(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`modulate` per speaker and latent frame: ``x`` [1, 3 n, dim], ``shift`` [speakers, 3, dim] -> [speakers * 3, n,
    dim] in the dtype of ``shift``."""
    if available(x.device):
        return row_kernels.modulate_speech(x, shift, scale, eps)
    normed = layer_norm(x, eps).unflatten(1, (shift.shape[1], -1))
    modulated = normed * (1 + scale.unsqueeze(2).float()) + shift.unsqueeze(2).float()
    return modulated.flatten(0, 1).to(shift.dtype)


def add_speech(x: Tensor, heard: Tensor, mask: Tensor | None) -> Tensor:
    """Add what each speaker's frames heard, [speakers * 3, n, dim], to ``x`` [1, 3 n, dim].

    ``mask`` [speakers, 3 n, 1] says where each speaker is heard; None with a single one.
    """
    heard = heard.reshape(-1, *x.shape[1:])
    if mask is not None:
        heard = (heard * mask.to(heard)).sum(0, keepdim=True)
    return x + heard


def rotate(x: Tensor, rotation: rope.Rotation) -> Tensor:
    """`rope.rotate`: ``x`` [B, tokens, heads, head_dim]."""
    return row_kernels.rotate(x, rotation) if available(x.device) else rope.rotate(x, rotation)
