"""Ditto's repeated calls replayed as CUDA graphs: a whole window of motion, and a block of frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..gpu.graphs import CapturedCall, GraphLane, obstacle
from .lmdm import Sampler
from .pipeline import BLOCK, Ditto
from .windows import Sample

MOST_STEPS = 100
"""Steps up to which a window is one graph; a graph of more would be large and gain little."""


def accelerate(engine: Ditto) -> Ditto:
    """Replace the engine's calls by captured ones, in place, where `graphs.obstacle` has none.

    The first call of each shape then takes longer. Call `plain` before the networks are moved: otherwise the memory of
    the graphs stays until the next call. An interrupt is noticed before a window or a block, which take milliseconds.
    """
    if obstacle(engine.device):
        return engine
    lane = GraphLane(engine.device)
    engine.sampler = _CapturedSamplers(engine, lane)
    engine.render = _FullBlocks(CapturedCall(engine.render, lane, engine.warping_network, engine.decoder))
    return engine


def plain(engine: Ditto) -> Ditto:
    """Undo `accelerate`: captured graphs and their memory are freed."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)  # nothing may still be running in their memory
    engine.use_networks()
    return engine


class _CapturedSamplers:
    """A captured sampler for every number of steps that was asked for, whose caller looks for interrupts."""

    def __init__(self, engine: Ditto, lane: GraphLane):
        self._plain, self._model, self._lane = engine.sampler, engine.motion_model, lane
        self._captured: dict[int, CapturedCall] = {}

    def __call__(self, steps: int, check_interrupt: Callable[[], None]) -> Sample:
        if steps > MOST_STEPS:
            return self._plain(steps, check_interrupt)
        if steps not in self._captured:
            self._captured[steps] = CapturedCall(Sampler(self._model, steps), self._lane, self._model)
        return self._captured[steps]


class _FullBlocks:
    """Renders any number of frames up to `BLOCK` as if they were so many, for graphs that know one shape."""

    def __init__(self, render: Callable[[Tensor, Tensor, Tensor], Tensor]):
        self._render = render

    def __call__(self, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """See `Ditto.render`; what a portrait has once stays so."""
        count = len(driving)
        if len(volume) > 1 or len(source) > 1:
            volume, source = _filled(volume), _filled(source)
        return self._render(volume, source, _filled(driving))[:count]


def _filled(x: Tensor) -> Tensor:
    """``[n, ...]`` with its last row repeated: ``[BLOCK, ...]``."""
    return x if len(x) == BLOCK else torch.cat([x, x[-1:].expand(BLOCK - len(x), *x.shape[1:])])
