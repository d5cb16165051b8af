"""Blocks that wait in CPU memory, and the order in which copies and computation meet."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from avatar.engines.gpu.lanes import Lane, Prefetcher
from avatar.engines.gpu.offload import BlockOffload, WaitingBlock, spread
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import called_outside
from avatar.engines.longcat.config import SamplingConfig as LongCatSampling
from avatar.engines.longcat.layout import Layout
from avatar.engines.longcat.sampler import Prompts, SegmentSampler

from tests.unit.tiny_s2v import condition, features, model
from tools.tiny_longcat import TINY
from tools.tiny_longcat import transformer as longcat

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def video(transformer, device: torch.device, blocks: int = 4) -> list[torch.Tensor]:
    given = {name: value.to(device) for name, value in condition().items()}
    sampler = BlockSampler(transformer, SamplingConfig(steps=2, frames_per_clip=24), **given)
    return [sampler.next_block(features(block)).cpu() for block in range(blocks)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_waiting_blocks_give_the_same_video_bit_for_bit(device, count):
    device = torch.device(device)
    transformer = copy.deepcopy(model()).to(device)
    resident = video(transformer, device)
    waiting = [WaitingBlock(transformer.blocks[i]) for i in spread(count, len(transformer.blocks))]
    for _ in range(2):  # the second run finds the blocks as the first one left them
        with BlockOffload(waiting, device, called_outside):
            found = video(transformer, device)
        assert all(torch.equal(a, b) for a, b in zip(resident, found, strict=True))
        assert all(p.device.type == "cpu" for one in waiting for p in one.block.parameters())


def test_waiting_blocks_of_longcat_give_the_same_video_bit_for_bit():
    network = longcat(TINY["1.5"])
    resident = run_longcat(network)
    waiting = [WaitingBlock(block) for block in network.blocks]
    with BlockOffload(waiting, torch.device("cpu")):
        assert torch.equal(run_longcat(network), resident)


def run_longcat(network: torch.nn.Module) -> torch.Tensor:
    """Latents of one segment, from a picture."""
    config = LongCatSampling(steps=2, distilled=False, frames=9, overlap=5)
    draw = torch.Generator().manual_seed(0)
    prompt = torch.randn(3, network.config.caption_channels, generator=draw)
    words = network.encode_text(prompt, 2)
    sampler = SegmentSampler(network, config, Prompts(words), None, torch.device("cpu"))
    windows = torch.randn(1, 9, 5, 5, 20, generator=draw)
    picture, noise = (torch.randn(1, 16, count, 4, 4, generator=draw) for count in (1, 2))
    *_, latents = sampler.denoise(noise, sampler.prepare(Layout(2, 2, 1, 2), picture, windows))
    return latents


def test_blocks_of_different_layouts_are_refused():
    blocks = copy.deepcopy(model()).blocks
    blocks[1].ffn.append(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="differ"):
        BlockOffload([WaitingBlock(block) for block in blocks], torch.device("cpu"))


@pytest.mark.parametrize("count", range(1, 41))
def test_waiting_blocks_are_spread_evenly(count):
    chosen = spread(count, 40)
    gaps = [b - a for a, b in zip(chosen, [*chosen[1:], 40 + chosen[0]], strict=True)]
    assert len(chosen) == count and max(gaps) - min(gaps) <= 1


class LazyLane(Lane):
    """A lane whose copies happen at the last moment at which they may."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.queue, self.done = [], 0

    def mark(self) -> int:
        return len(self.queue)

    def computation_waits(self, mark: int) -> None:
        while self.done < mark:
            self.queue[self.done]()
            self.done += 1


@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_a_taken_buffer_holds_its_item_until_it_is_released(buffers):
    lane, memory = LazyLane(), [None] * buffers

    def fill(buffer: int, item: int) -> None:
        lane.queue.append(lambda: memory.__setitem__(buffer, item))

    prefetcher = Prefetcher(lane, buffers, fill, lambda item: (item + 1) % 7)
    draw = random.Random(0)
    item = 0
    for _ in range(200):
        item = draw.randrange(7) if draw.random() < 0.2 else (item + 1) % 7
        buffer = prefetcher.take(item)
        assert memory[buffer] == item
        assert prefetcher.take(item) == buffer
        if draw.random() < 0.7:
            prefetcher.release()


def test_the_next_item_is_on_its_way_before_it_is_asked_for():
    lane, fetched = LazyLane(), []

    def fill(buffer: int, item: int) -> None:
        lane.queue.append(lambda: None)
        fetched.append(item)

    prefetcher = Prefetcher(lane, 2, fill, lambda item: item + 1)
    for item in range(5):
        prefetcher.take(item)
        assert fetched == list(range(item + 2))
        prefetcher.release()
        assert fetched == list(range(item + 3))
