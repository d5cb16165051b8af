"""Memory that is reserved on a GPU and that nobody uses."""

from __future__ import annotations

import gc

import torch


def give_back() -> None:
    """Give memory back that PyTorch has reserved and does not use: on a full GPU its gaps may be gigabytes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
