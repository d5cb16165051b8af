"""The elementwise work between matrix products and attention, as pure functions.

Run as they are, each operation goes through memory once or more; where Triton runs, `row_kernels` has the same
functions as one kernel each. The layers themselves stay outside: they may be a host's own (quantised, patched).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..gpu import row_kernels
from ..gpu.triton_support import available
from ..parts.precision import layer_norm
from ..parts.wan.rope import rotate


def add(x: Tensor, y: Tensor, gate: Tensor | None = None) -> Tensor:
    """The residual stream ``x`` and ``y * gate``, or ``y``, in float32; the kernels leave it a sum, to be read by the
    functions below."""
    y = y.float()
    return x.float() + (y if gate is None else y * gate)


def total(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The residual stream in ``dtype``."""
    return x.to(dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Layer norm of ``x``, scaled and shifted; computed in float32, returned in ``dtype``."""
    return (layer_norm(x, eps) * (1 + scale) + shift).to(dtype)


def modulate_speech(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`modulate` per speaker and latent frame: ``x`` [1, 3 n, dim], ``shift`` [speakers, 3, dim] -> [speakers * 3, n,
    dim] in the dtype of ``shift``."""
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


@dataclass(frozen=True)
class Regions:
    """The functions of this module, or others that compute the same."""

    add: Callable[..., Any] = add
    total: Callable[..., Tensor] = total
    modulate: Callable[..., Tensor] = modulate
    modulate_speech: Callable[..., Tensor] = modulate_speech
    add_speech: Callable[..., Tensor] = add_speech
    rotate: Callable[..., Tensor] = rotate


PLAIN = Regions()
KERNELS = Regions(
    add=row_kernels.add,
    total=row_kernels.total,
    modulate=row_kernels.modulate,
    modulate_speech=row_kernels.modulate_speech,
    rotate=row_kernels.rotate,
)


def regions_for(device: torch.device) -> Regions:
    """The fastest of them on ``device``."""
    return KERNELS if available(device) else PLAIN
