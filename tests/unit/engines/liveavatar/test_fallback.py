"""A device that runs out of memory in the middle of a video."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.streaming import StreamingDecoder

from tests.unit.engines.liveavatar.test_pipeline import scene, vae
from tests.unit.tiny_s2v import model

CONFIG = SamplingConfig(steps=2, frames_per_clip=24)
BLOCKS = 5


def video(performance: Performance = RESIDENT) -> tuple[list[torch.Tensor], list[str]]:
    """The blocks, and what was said on the way."""
    said: list[str] = []
    stream = generate(
        model(), vae(), scene(), CONFIG, 12 * BLOCKS - 3, performance=performance, say=said.append
    )
    return list(stream), said


@cache
def usual(performance: Performance = RESIDENT) -> list[torch.Tensor]:
    """The blocks where memory suffices; asked for before anything fails."""
    blocks, said = video(performance)
    assert said == []
    return blocks


def failing(monkeypatch, owner: type, method: str, calls: set[int]) -> None:
    """Let the given calls of a method (from 0) do their work and then run out of memory."""
    original, count = getattr(owner, method), iter(range(10_000))

    def attempt(*args, **kwargs):
        result = original(*args, **kwargs)
        if next(count) in calls:
            raise torch.OutOfMemoryError("no memory")
        return result

    monkeypatch.setattr(owner, method, attempt)


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (BlockSampler, "predict", 0),
        (BlockSampler, "predict", 5),  # the second step of the third block, which got a new reference
        (BlockSampler, "predict", 8),
        (StreamingDecoder, "__call__", 0),
        (StreamingDecoder, "__call__", 3),
    ],
)
@pytest.mark.parametrize(
    "performance",
    [
        RESIDENT,
        Performance(ahead=True),
        Performance(caches=CacheFormat.INT8),
        Performance(caches=CacheFormat.ATTENTION8),
        Performance(caches_on_cpu=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_video_goes_on_as_if_nothing_had_been(monkeypatch, owner, method, call, performance, times):
    if performance.caches_on_cpu:
        times = min(times, 2)  # of the two caches one waits there already
    expected = usual(performance)
    failing(monkeypatch, owner, method, set(range(call, call + times)))
    found, said = video(performance)
    assert len(said) == times - 1, "tidying up takes nothing from the video"
    assert all("ran out" in text for text in said)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_decoder_that_fails_between_latents_loses_no_frame(monkeypatch):
    expected = usual()
    failing(monkeypatch, type(vae()), "decode_next", {3 + 1, 3 + 2})  # in the second block
    found, said = video()
    assert len(said) == 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_with_fp8_the_caches_turn_to_8_bits(monkeypatch):
    expected = usual()
    failing(monkeypatch, BlockSampler, "predict", {6, 7, 8})
    found, _ = video(Performance(fp8=True))  # the model here is a plain one
    assert all(torch.equal(a, b) for a, b in zip(found[:3], expected[:3], strict=True))
    differences = [(a.int() - b.int()).abs().float().mean() for a, b in zip(found, expected, strict=True)]
    assert 0 < differences[-1] < 3


@pytest.mark.parametrize(
    ("performance", "calls"), [(RESIDENT, {5, 6, 7, 8}), (Performance(caches_on_cpu=2), {5, 6})], ids=str
)
def test_when_nothing_is_left_to_make_smaller_it_is_an_error(monkeypatch, performance, calls):
    failing(monkeypatch, BlockSampler, "predict", calls)
    with pytest.raises(torch.OutOfMemoryError):
        video(performance)


def test_a_plan_that_was_wrong_by_little_moves_one_cache(monkeypatch):
    held = []
    stepped = BlockSampler.denoise

    def watched(self, *args, **kwargs):
        held.append(sum(cache.on_cpu for cache in self.caches.values()))
        return stepped(self, *args, **kwargs)

    monkeypatch.setattr(BlockSampler, "denoise", watched)
    failing(monkeypatch, BlockSampler, "predict", {4, 5})
    _, said = video(Performance(caches=CacheFormat.INT8))
    assert max(held) == 1 and len(said) == 1 and "a step's cache waits in CPU memory" in said[0]


def test_a_decoder_that_fails_four_times_is_not_asked_again(monkeypatch):
    failing(monkeypatch, StreamingDecoder, "__call__", {3, 4, 5, 6})
    with pytest.raises(torch.OutOfMemoryError):
        video(Performance(ahead=True))
