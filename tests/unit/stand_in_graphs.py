"""What stands in for CUDA graphs on a CPU: it repeats what was captured, in the state of Python of that time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from avatar.engines.gpu import graphs
from avatar.engines.gpu.weights import Weights, addresses
from avatar.engines.liveavatar import captured
from avatar.engines.liveavatar.sampler import BlockSampler


class Recorded:
    """A captured function of some networks and perhaps a sampler, whose caches write where they wrote then.

    Attributes:
        made: all that were captured.
        replays: how often one was replayed.
    """

    made: ClassVar[list[Recorded]] = []
    replays: ClassVar[int] = 0
    watched: ClassVar[list[torch.nn.Module]] = []
    running = threading.local()

    def __init__(self, function: Callable[[], Any]) -> None:
        self.running.sampler = None
        self.output, self.function, self.sampler = function(), function, self.running.sampler
        self.blocks, self.memory = self._blocks(), self._memory()
        Recorded.made.append(self)

    def _caches(self) -> list:
        return [] if self.sampler is None else list(self.sampler.caches.values())

    def _blocks(self) -> list[int]:
        return [cache.blocks for cache in self._caches()]

    def _memory(self) -> list[int]:
        """Where the weights are that it read."""
        networks = self.watched if self.sampler is None else [self.sampler.model]
        return addresses(Weights(*networks).held())

    def replay(self) -> None:
        assert self.memory == self._memory(), "a graph was replayed whose weights are elsewhere"
        Recorded.replays += 1
        now = self._blocks()
        for cache, blocks in zip(self._caches(), self.blocks, strict=True):
            cache.blocks = blocks
        result = self.function()
        for old, new in zip(
            *((x,) if isinstance(x, torch.Tensor) else x for x in (self.output, result)), strict=True
        ):
            old.copy_(new)
        for cache, blocks in zip(self._caches(), now, strict=True):
            cache.blocks = blocks


def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    """Let every device have graphs, which are `Recorded`."""

    def capture(lane: graphs.GraphLane, function: Callable[[], Any]) -> tuple[Recorded, Any]:
        made = Recorded(function)
        return made, made.output

    forward = BlockSampler._forward

    def seen(sampler: BlockSampler, *args: Any) -> torch.Tensor:
        Recorded.running.sampler = sampler
        return forward(sampler, *args)

    monkeypatch.setattr(graphs.GraphLane, "capture", capture)
    monkeypatch.setattr(captured, "obstacle", lambda device: "")
    monkeypatch.setattr(BlockSampler, "_forward", seen)
    for name, value in (("made", []), ("replays", 0), ("watched", [])):
        monkeypatch.setattr(Recorded, name, value)
    return Recorded
