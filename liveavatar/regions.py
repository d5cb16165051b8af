"""The elementwise work between matrix products and attention, as pure functions.

Run as they are, each operation goes through memory once or more; where Triton runs, `row_kernels` has the same
functions as one kernel each. The layers themselves stay outside: they may be a host's own (quantised, patched).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.triton_support import available
from . import row_kernels
from .precision import layer_norm
from .rope import rotate


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Layer norm of ``x``, scaled and shifted; computed in float32, returned in ``dtype``."""
    return (layer_norm(x, eps) * (1 + scale) + shift).to(dtype)


def add_gated(x: Tensor, y: Tensor, gate: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x + y * gate`` in float32, and the same in ``dtype``."""
    x = x.float() + y.float() * gate
    return x, x.to(dtype)


def add_modulate(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``x + y`` in float32, and what `modulate` makes of it."""
    x = x + y.float()
    return x, modulate(x, shift, scale, eps, dtype)


def close_gated(x: Tensor, y: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
    """``x + y * gate``, computed in float32, in ``dtype``: the end of a layer."""
    return (x + y.float() * gate).to(dtype)


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

    modulate: Callable[..., Tensor] = modulate
    add_gated: Callable[..., tuple[Tensor, Tensor]] = add_gated
    add_modulate: Callable[..., tuple[Tensor, Tensor]] = add_modulate
    close_gated: Callable[..., Tensor] = close_gated
    modulate_speech: Callable[..., Tensor] = modulate_speech
    add_speech: Callable[..., Tensor] = add_speech
    rotate: Callable[..., Tensor] = rotate


PLAIN = Regions()
KERNELS = Regions(
    modulate=row_kernels.modulate,
    add_gated=row_kernels.add_gated,
    add_modulate=row_kernels.add_modulate,
    close_gated=row_kernels.close_gated,
    modulate_speech=row_kernels.modulate_speech,
    rotate=row_kernels.rotate,
)


def regions_for(device: torch.device) -> Regions:
    """The fastest of them on ``device``."""
    return KERNELS if available(device) else PLAIN
