"""Which GPU does which denoising steps of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch

DECODING = 0.5
"""Decoding a block takes the VAE as long as so much of a denoising step: 67 of 126 ms with `fast` on an H200."""
DECODING_FAST = 0.1
"""The same for a fast decoder."""

IN_TURN = 2
"""GPUs that may decode in turn. On two H200 at 704x384 it brought 4 to 14 %: 27.8 FPS with `quality`, 42.8 with `fast`.
On four, where each has one step, frames came in bursts and were fewer: 36.8 and 53.6 FPS, 43.1 and 62.1 before. Both
were measured before decoding went first on a GPU (see `Lane`)."""


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


@dataclass(frozen=True)
class Way:
    """How denoising steps and decoding are shared.

    Attributes:
        steps: of each GPU; the last range is empty where that one only decodes.
        decoders: the GPUs that decode, in turn if there are several; the last one is always among them.
    """

    steps: tuple[range, ...]
    decoders: tuple[int, ...]

    def busiest(self, decoding: float) -> float:
        """What the slowest GPU does for a block, in denoising steps; it decides."""
        part = decoding / len(self.decoders)
        return max(len(steps) + part * (gpu in self.decoders) for gpu, steps in enumerate(self.steps))


def ways(forwards: int, gpus: int, decoding: float, in_turn: int = IN_TURN) -> list[Way]:
    """All ways to share ``forwards`` steps among up to ``gpus`` GPUs, of which up to ``in_turn`` decode; the fastest
    first.

    Of those that are equally fast, few GPUs come first, then those where fewer decode, and those that decode beside
    steps.
    """

    def cost(way: Way) -> tuple:
        counts = [-len(steps) for steps in way.steps]
        return way.busiest(decoding), len(counts), len(way.decoders), not way.steps[-1], counts

    found = []
    for stages in range(1, min(gpus, forwards) + 1):
        for shared in _cuts(forwards, stages):
            last = stages - 1
            found.append(Way(shared, (last,)))
            alike = tuple(gpu for gpu, steps in enumerate(shared) if len(steps) == len(shared[last]))
            if 1 < len(alike) <= in_turn:
                found.append(Way(shared, alike))
            if stages < gpus:
                found.append(Way((*shared, range(forwards, forwards)), (stages,)))
    return sorted(found, key=cost)


def _cuts(forwards: int, stages: int) -> Iterator[tuple[range, ...]]:
    for places in combinations(range(1, forwards), stages - 1):
        yield tuple(range(a, b) for a, b in pairwise((0, *places, forwards)))
