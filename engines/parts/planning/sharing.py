"""Which GPU does which denoising steps of a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch

DECODING = 0.5
"""Decoding a block takes the VAE as long as so much of a denoising step: 67 of 126 ms with `fast` on an H200."""
DECODING_FAST = 0.1
"""The same for a fast decoder."""


@dataclass(frozen=True)
class Neighbour:
    """A GPU with its memory in bytes; ``device`` is None for the one on which the model is loaded."""

    device: torch.device | None
    free: int
    total: int


@dataclass(frozen=True)
class Share:
    """The part of the work that one GPU does; bytes.

    Attributes:
        device: None for the one on which the model and the decoder are loaded.
        steps: denoising steps, counted from 0; empty where it only decodes.
        needed: of its memory.
    """

    device: torch.device | None
    steps: range
    decodes: bool
    needed: int
    total: int

    @property
    def text(self) -> str:
        """Its part of a plan's line."""
        first, last = (self.steps[0] + 1, self.steps[-1] + 1) if self.steps else (0, 0)
        steps = f"step {first}" if first == last else f"steps {first}-{last}"
        return ", ".join(([steps] if self.steps else []) + (["VAE"] if self.decodes else []))


def partitions(forwards: int, gpus: int, decoding: float) -> list[list[range]]:
    """All ways to share ``forwards`` steps among up to ``gpus`` GPUs, of which the last one decodes; the fastest first.

    The slowest GPU decides. Of those that are equally fast, few GPUs come first, then those that decode beside steps.
    The last range is empty where a GPU only decodes.
    """

    def cost(ranges: Sequence[range]) -> tuple:
        times = [len(steps) for steps in ranges]
        times[-1] += decoding
        return max(times), len(ranges), not ranges[-1], [-len(steps) for steps in ranges]

    found = []
    for stages in range(1, min(gpus, forwards) + 1):
        for shared in _cuts(forwards, stages):
            found.append(shared)
            if stages < gpus:
                found.append([*shared, range(forwards, forwards)])
    return sorted(found, key=cost)


def _cuts(forwards: int, stages: int) -> Iterator[list[range]]:
    for places in combinations(range(1, forwards), stages - 1):
        yield [range(a, b) for a, b in pairwise((0, *places, forwards))]
