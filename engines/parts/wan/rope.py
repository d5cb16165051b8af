"""Three-axis rotary position embedding of Wan, computed on the fly so that no table limits the duration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BASE = 10000.0

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each float32 [tokens, head_dim / 2]."""


class RotaryEmbedding:
    """Rotations for tokens on a (time, row, column) grid.

    Of a head's ``head_dim / 2`` interleaved pairs a third each turns with row and column, the rest with time
    (22, 21 and 21 pairs for a width of 128).

    Args:
        head_dim: width of an attention head.
        half_precision: round cosines and sines to float16, as the published model was trained.
    """

    def __init__(self, head_dim: int, half_precision: bool = True) -> None:
        pairs = head_dim // 2
        self.half_precision = half_precision
        self.axis_pairs = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)

    def grid(
        self,
        times: Sequence[int] | range,
        rows: Sequence[int] | range,
        columns: Sequence[int] | range,
        device: torch.device | str = "cpu",
    ) -> Rotation:
        """Rotations of all grid points, ordered time, row, column; positions may be negative."""
        shape = (len(times), len(rows), len(columns))
        angles = []
        for axis, (positions, pairs) in enumerate(zip((times, rows, columns), self.axis_pairs, strict=True)):
            steps = torch.arange(pairs, dtype=torch.float64, device=device)
            frequencies = BASE ** (-steps / pairs)
            position = _tensor(positions, device)
            view = [1, 1, 1, pairs]
            view[axis] = shape[axis]
            angles.append(torch.outer(position, frequencies).view(view).expand(*shape, pairs))
        angle = torch.cat(angles, dim=-1).flatten(0, 2)
        return self._store(angle.cos()), self._store(angle.sin())

    def _store(self, values: Tensor) -> Tensor:
        # Through float32 first: rounding float64 to float16 directly would differ in rare ties.
        values = values.float()
        return values.half().float() if self.half_precision else values


def _tensor(positions: Sequence[int] | range, device: torch.device | str) -> Tensor:
    if isinstance(positions, range):  # made on the device: a copy to it would wait for the device
        first, last, step = positions.start, positions.stop, positions.step
        return torch.arange(first, last, step, dtype=torch.float64, device=device)
    return torch.tensor(positions, dtype=torch.float64, device=device)


def concatenate(rotations: Sequence[Rotation]) -> Rotation:
    """Join the rotations of consecutive token groups."""
    cos, sin = zip(*rotations, strict=True)
    return torch.cat(cos), torch.cat(sin)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the interleaved pairs of ``x`` [B, tokens, heads, head_dim]; computed in float32, dtype kept."""
    cos, sin = (table[None, :, None, :, None] for table in rotation)
    pairs = x.unflatten(-1, (-1, 2))
    # (even, odd) -> (even * cos - odd * sin, odd * cos + even * sin), without a float32 copy of x.
    turned = torch.addcmul(pairs * cos, pairs.flip(-1), torch.cat((-sin, sin), dim=-1))
    return turned.flatten(-2).to(x.dtype)
