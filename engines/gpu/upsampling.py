"""Twice the size by nearest neighbours and a 3x3 convolution, as one 2x2 convolution of the small map.

Every second row of the large map sees only two rows of the small one, and so do the columns: four sets of 2x2 weights,
sums of the 3x3 ones, make the four sets of pixels, with 4/9 of the arithmetic and no large map but the result. The
small map is padded by one; pixels (2 y + i, 2 x + j) are those of set 2 i + j at (y + i, x + j).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def small_weight(weight: Tensor) -> Tensor:
    """A weight ``[N, C, 3, 3]`` for the large map as ``[4 N, C, 2, 2]``, channels last, for the small one, set by
    set."""
    count = len(weight)
    rows = weight.permute(0, 2, 3, 1).reshape(count, 9, -1)
    sums = torch.matmul(_sums(weight.device, weight.dtype), rows)  # [N, 16, C]
    sets = sums.unflatten(1, (2, 2, 2, 2)).permute(1, 2, 0, 3, 4, 5).reshape(4 * count, 2, 2, -1)
    return sets.permute(0, 3, 1, 2)


@functools.cache
def _sums(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Which of the 3x3 weights a 2x2 one is the sum of: [16, 9], rows by set (down, across) and place."""
    # rows (and columns) of the small map that the first and the second of two large ones see
    seen = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    sums = torch.einsum("iay,jbx->ijabyx", seen, seen).reshape(16, 9)
    return sums.to(device, dtype)
