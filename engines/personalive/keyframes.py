"""Remembers frames of the past whose expression is far from all that are remembered already."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyframeMemory:
    """Motion tokens seen so far, with a distance test. It grows by one entry per accepted frame."""

    def __init__(self, tokens: Tensor, threshold: float):
        """Begin with the entries ``tokens`` ``[n, 32, 16]`` (the portrait's own)."""
        self.bank = tokens.flatten(1).float()
        self.threshold = threshold

    def distances(self, tokens: Tensor) -> Tensor:
        """Euclidean distance ``[m]`` of each of ``[m, 32, 16]`` to its nearest entry."""
        return torch.cdist(tokens.flatten(1).float(), self.bank).amin(1)

    def accept(self, tokens: Tensor) -> bool:
        """Remember ``[1, 32, 16]`` if it is farther than the threshold from every entry; say whether."""
        new = bool(self.distances(tokens)[0] > self.threshold)
        if new:
            self.bank = torch.cat([self.bank, tokens.flatten(1).float()])
        return new
