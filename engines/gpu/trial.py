"""Kernels are tried before they are used: what fails or computes something else is named in the log and left alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from .tidy import give_back


def passes(trial: Callable[[], None], complaint: str) -> bool:
    """Whether ``trial`` ends without an error; ``complaint`` is logged otherwise, with the problem in its ``%s``.

    Raises:
        torch.OutOfMemoryError: there is no room for the trial, which says nothing about what is tried.
    """
    try:
        try:
            trial()
        except torch.OutOfMemoryError:
            give_back()
            trial()
    except torch.OutOfMemoryError:
        raise
    except Exception as problem:  # compilers and beta versions raise all kinds
        logging.warning(complaint, problem)
        return False
    return True


def require_close(found: Tensor, expected: Tensor, most: float) -> None:
    """RuntimeError unless the norm of the difference is at most ``most`` times that of ``expected``."""
    found, expected = found.float(), expected.float()
    error = float((found - expected).norm() / expected.norm())
    if not error <= most:  # NaN included
        raise RuntimeError(f"its result is off by {error:.1%}")
