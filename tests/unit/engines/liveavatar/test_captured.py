"""Denoising steps as CUDA graphs; on a CPU something stands in for the graph that repeats what was captured."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import ClassVar

import pytest
import torch
from avatar.engines.liveavatar import captured
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import Performance

from tests.unit.tiny_s2v import GRID, condition, features, model, sampler

GRAPHS = Performance(graphs=True)
OPTIONS = {"steps": 2, "frames_per_clip": 36, "sink_distance": None}


def graphed(performance: Performance = GRAPHS, **options) -> BlockSampler:
    return BlockSampler(
        model(), SamplingConfig(**{**OPTIONS, **options}), **condition(), performance=performance
    )


class Replayed:
    """A `CapturedCall` that computes with the buffers and the state of Python that there were at the capture."""

    made: ClassVar[list[Replayed]] = []
    sampler: ClassVar[BlockSampler]

    def __init__(self, function, lane, warm_up):
        self.function, self.static = function, None
        self.made.append(self)

    def __call__(self, *args):
        caches = self.sampler.caches.values()
        now = [cache.blocks for cache in caches]
        if self.static is None:
            self.static, self.then = copied(args), now
        fill(self.static, args)
        for cache, blocks in zip(caches, self.then, strict=True):
            cache.blocks = blocks
        flow = self.function(*self.static).clone()
        for cache, blocks in zip(caches, now, strict=True):
            cache.blocks = blocks
        return flow


def copied(value):
    return value.clone() if isinstance(value, torch.Tensor) else type(value)(map(copied, value))


def fill(static, given):
    if isinstance(static, torch.Tensor):
        static.copy_(given)
    else:
        for one, other in zip(static, given, strict=True):
            fill(one, other)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(captured, "can_capture", lambda device: True)
    monkeypatch.setattr(captured, "GraphLane", lambda device: None)
    monkeypatch.setattr(captured, "CapturedCall", Replayed)
    monkeypatch.setattr(Replayed, "made", [])


@pytest.mark.parametrize("format", list(CacheFormat))
@pytest.mark.parametrize("speakers", [1, 2])
def test_what_is_replayed_is_what_the_step_computes(stand_in, format, speakers):
    mask = None
    if speakers == 2:
        mask = torch.stack((torch.ones(3, *GRID), torch.zeros(3, *GRID)))
    usual = graphed(Performance(caches=format))
    replaying = graphed(Performance(caches=format, graphs=True))
    Replayed.sampler = replaying
    for block in range(11):
        given = features(block, speakers), None, mask
        assert torch.equal(replaying.next_block(*given), usual.next_block(*given)), block
    assert len(Replayed.made) == 2 * 3  # a step has one for each slot


def test_a_sampler_with_graphs_frees_its_memory_when_it_goes(stand_in):
    gone = weakref.ref(graphed())
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("performance", "said"),
    [(GRAPHS, "need an NVIDIA GPU"), (Performance(graphs=True, caches_on_cpu=1), "wait in CPU memory")],
)
def test_where_there_can_be_none_steps_run_as_always_and_the_log_says_why(caplog, performance, said):
    plain = [sampler(**OPTIONS).next_block(features(0))]
    assert torch.equal(graphed(performance).next_block(features(0)), plain[0])
    assert said in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_graphs_give_the_same_latents():
    device = torch.device("cuda")
    transformer = copy.deepcopy(model()).to(device)
    given = {name: value.to(device) for name, value in condition().items()}
    found = []
    for performance in (Performance(), GRAPHS):
        made = BlockSampler(transformer, SamplingConfig(**OPTIONS), **given, performance=performance)
        found.append([made.next_block(features(block)) for block in range(11)])
    for usual, replayed in zip(*found, strict=True):
        torch.testing.assert_close(replayed, usual, rtol=1e-3, atol=1e-3)
