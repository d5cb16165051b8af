"""Which GPU a device is, and of which generation, which decides about formats and instructions that kernels may use."""

from __future__ import annotations

import torch

AMPERE, ADA, HOPPER = (8, 0), (8, 9), (9, 0)
"""Compute capabilities that generations begin with; matrices of float8 are multiplied from Ada on."""


def generation(device: torch.device) -> tuple[int, int]:
    """The compute capability of an NVIDIA GPU; (0, 0) for any other device."""
    if device.type != "cuda" or torch.version.hip:
        return 0, 0
    return torch.cuda.get_device_capability(device)


def indexed(device: torch.device) -> torch.device:
    """``device`` with its number, as tensors name it; "cuda" alone means the current one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def is_hopper(device: torch.device) -> bool:
    """Whether ``device`` is of the Hopper generation itself, whose instructions later ones do not have."""
    return generation(device)[0] == HOPPER[0]
