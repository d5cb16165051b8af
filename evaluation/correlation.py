"""How well one track follows another, and how much later."""

from __future__ import annotations

import torch
from torch import Tensor


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two tracks ``[F]``; 0 where one of them does not change."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    size = a.norm() * b.norm()
    return float((a @ b) / size) if size > 1e-9 else 0.0


def correlations(read: Tensor, target: Tensor, reach: int) -> Tensor:
    """Correlations ``[2 * reach + 1]`` for shifts of ``read`` by -``reach`` to ``reach`` frames.

    Raises:
        ValueError: the tracks are too short for such shifts.
    """
    length = min(len(read), len(target))
    if length < reach + 3:
        raise ValueError(f"{length} frames are too few for shifts of {reach}.")
    read, target = read[:length], target[:length]
    return torch.tensor(
        [
            correlation(
                read[max(lag, 0) : length + min(lag, 0)], target[max(-lag, 0) : length + min(-lag, 0)]
            )
            for lag in range(-reach, reach + 1)
        ]
    )


def lagged_correlation(read: Tensor, target: Tensor, reach: int = 6) -> tuple[float, int]:
    """Best correlation of two tracks ``[F]`` over shifts of up to ``reach`` frames, and that shift: positive when
    ``read`` comes late."""
    found = correlations(read, target, reach)
    best = int(found.argmax())
    return float(found[best]), best - reach
