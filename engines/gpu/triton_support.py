"""Triton and its language for all kernels, None where it is not installed, and whether it works on a device.

Triton is optional, and an installed one may still be useless: without a C compiler, or for a GPU that it does not know.
"""

from __future__ import annotations

import importlib.util

import torch

from .trial import passes, require_close

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

SIDE = 16  # of the matrices that are tried
_tried: dict[torch.device, bool] = {}


@torch.compiler.assume_constant_result
def available(device: torch.device) -> bool:
    """Whether our kernels run on ``device``.

    The first question about a device runs a small kernel; it must not come from within a CUDA graph's capture or from
    code that is being compiled. A Triton that fails is named in the log.
    """
    if device not in _tried:
        _tried[device] = device.type == "cuda" and triton is not None and _works(device)
    return _tried[device]


def require_compiler(device: torch.device) -> None:
    """RuntimeError when torch.compile cannot make kernels for ``device`` here."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise RuntimeError(
            "Compiling needs Triton, which is not installed; install triton (on Windows: triton-windows) or choose "
            "another speed."
        )


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``; only such blocks are known to Triton."""
    return 1 << (n - 1).bit_length()


def _works(device: torch.device) -> bool:
    x = (torch.arange(SIDE**2) % 5).view(SIDE, SIDE)
    y = (torch.arange(SIDE**2) % 7).view(SIDE, SIDE)
    return passes(
        lambda: require_close(_trial(x.to(device), y.to(device)).cpu(), x @ y, 0.0),
        "LiveAvatar: Triton is installed but cannot be used, so sampling is slower: %s",
    )


def _trial(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The product of two small matrices, which half precision holds exactly."""
    out = torch.zeros(x.shape, device=x.device)
    _product_kernel[(1,)]((x.half(), y.half()), out, SIDE=SIDE)
    return out


if triton is not None:

    @triton.jit
    def _product_kernel(pair, out, SIDE: tl.constexpr):
        place = tl.arange(0, SIDE)
        where = place[:, None] * SIDE + place[None, :]
        factors = ()  # older versions have no tuples, which some kernels need
        for i in tl.static_range(len(pair)):
            factors += (tl.load(pair[i] + where),)
        tl.store(out + where, tl.dot(*factors))
