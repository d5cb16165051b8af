"""Denoising steps as CUDA graphs; on a CPU something stands in for the graph that repeats what was captured."""

from __future__ import annotations

import copy
import gc
import weakref
from itertools import islice

import pytest
import torch
from avatar.engines.gpu.graphs import GraphLane, obstacle
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.fallback import WITHOUT_GRAPHS
from avatar.engines.liveavatar.guidance import GuidedSampler
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.sampler import CALLED, MOVED, BlockSampler
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance

from tests.unit.engines.liveavatar.test_fallback import failing
from tests.unit.engines.liveavatar.test_pipeline import scene, vae
from tests.unit.stand_in_graphs import Recorded, stand_in
from tests.unit.tiny_s2v import CONFIG, GRID, condition, features, model, noise

CPU, DEVICE = torch.device("cpu"), torch.device("cuda")
GRAPHS = Performance(graphs=True)
OPTIONS = {"steps": 2, "frames_per_clip": 36, "sink_distance": None}
VIDEO = SamplingConfig(steps=2, frames_per_clip=24)
FRAMES = 12 * 7 - 3


def made(performance: Performance = GRAPHS, **given) -> BlockSampler:
    """A sampler with a model of its own, whose weights may be moved."""
    return BlockSampler(
        copy.deepcopy(model()), SamplingConfig(**OPTIONS), **{**condition(), **given}, performance=performance
    )


def move(network: torch.nn.Module) -> None:
    """As a host moves weights away and back: the values are the same, the places are not."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


@pytest.fixture(autouse=True)
def recorded(monkeypatch) -> type[Recorded]:
    return stand_in(monkeypatch)


@pytest.mark.parametrize("format", list(CacheFormat))
@pytest.mark.parametrize("speakers", [1, 2])
def test_what_is_replayed_is_what_the_step_computes(recorded, format, speakers):
    mask = None
    if speakers == 2:
        mask = torch.stack((torch.ones(3, *GRID), torch.zeros(3, *GRID)))
    usual, replaying = made(Performance(caches=format)), made(Performance(caches=format, graphs=True))
    for block in range(11):
        pose = noise(1, 16, 3, 2 * GRID[0], 2 * GRID[1], seed=block)
        given = features(block, speakers), pose, None if mask is None else mask.roll(block, 0)
        assert torch.equal(replaying.next_block(*given), usual.next_block(*given)), block
    assert len(recorded.made) == 2 * 3  # a step has one for each slot
    assert recorded.replays == 2 * 9


def test_a_sampler_with_graphs_frees_its_memory_when_it_goes():
    gone = weakref.ref(made())
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("block", [1, 3, 6])
def test_after_weights_were_moved_nothing_is_replayed_and_that_is_said_once(recorded, block):
    said = []
    usual, replaying = made(RESIDENT), made(say=said.append)
    for number in range(9):
        if number == block:
            move(replaying.model)
        assert torch.equal(
            replaying.next_block(features(number)), usual.next_block(features(number))
        )  # the stand-in fails where weights are elsewhere
        if number in (block, block + 1):
            assert said == ([MOVED] if block > 2 else [])  # before the first capture nothing is lost
    assert replaying.replays == (block < 3)


def test_blocks_of_a_mood_are_called_and_the_others_replayed(recorded):
    moods = {"glad": noise(7, CONFIG.text_dim, seed=60)}
    usual, replaying = made(RESIDENT, moods=moods), made(moods=moods)
    for block in range(10):
        given = {"mood": "glad" if block in (4, 5, 8) else "neutral"}
        expected = usual.next_block(features(block), **given)
        assert torch.equal(replaying.next_block(features(block), **given), expected), block
    assert recorded.replays == 2 * 5


def test_a_block_that_was_interrupted_is_done_again_as_it_would_have_been(recorded):
    interrupts = iter([True])

    def check():
        if len(recorded.made) == 3 and next(interrupts, False):  # within a block that captures
            raise KeyboardInterrupt

    usual, replaying = made(RESIDENT), made(check_interrupt=check)
    for block in range(8):
        expected = usual.next_block(features(block))
        try:
            found = replaying.next_block(features(block))
        except KeyboardInterrupt:
            replaying.begin_again()
            found = replaying.next_block(features(block))
        assert torch.equal(found, expected), block
    assert next(interrupts, None) is None and replaying.replays


@pytest.mark.parametrize("first", [GRAPHS, RESIDENT], ids=["from graphs", "from calls"])
@pytest.mark.parametrize("then", [GRAPHS, RESIDENT], ids=["to graphs", "to calls"])
def test_a_video_goes_on_with_the_same_frames_with_and_without_graphs(tmp_path, first, then):
    expected = torch.cat(list(generate(model(), vae(), scene(), VIDEO, FRAMES)))
    state, reached = GenerationState(), 0
    stream = generate(model(), vae(), scene(), VIDEO, FRAMES, state=state, performance=first)
    for block in islice(stream, 4):
        reached += len(block)
    state.save(tmp_path / "state")
    rest = generate(
        model(), vae(), scene(), VIDEO, FRAMES, state=GenerationState(tmp_path / "state"), performance=then
    )
    assert torch.equal(torch.cat(list(rest)), expected[reached:])


def test_when_memory_runs_out_graphs_are_given_up_and_that_is_said(monkeypatch, recorded):
    expected = torch.cat(list(generate(model(), vae(), scene(), VIDEO, FRAMES)))
    failing(monkeypatch, BlockSampler, "predict", {9})
    said = []
    found = generate(model(), vae(), scene(), VIDEO, FRAMES, performance=GRAPHS, say=said.append)
    assert torch.equal(torch.cat(list(found)), expected)
    assert said == [WITHOUT_GRAPHS]
    assert recorded.replays == 4 * 2  # the second to the fifth block, whose last step failed


def test_where_a_capture_fails_steps_are_called_and_that_is_said_once(monkeypatch, recorded):
    captures = iter(range(100))
    capture = GraphLane.capture

    def failing_later(lane, function):
        if next(captures) == 3:
            raise ValueError("Pointer argument (at 0) cannot be accessed from Triton")
        return capture(lane, function)

    monkeypatch.setattr(GraphLane, "capture", failing_later)
    said = []
    usual, replaying = made(RESIDENT), made(say=said.append)
    for block in range(8):
        assert torch.equal(replaying.next_block(features(block)), usual.next_block(features(block))), block
    (sentence,) = said
    assert sentence.startswith("No CUDA graph could be captured (Pointer argument") and CALLED in sentence
    assert recorded.replays == len(recorded.made) == 3 and not replaying.replays


def test_guidance_replays_both_evaluations(recorded):
    options = {**OPTIONS, "guidance": 3.0}
    negative = noise(4, CONFIG.text_dim, seed=50)
    usual, replaying = (
        GuidedSampler(
            model(), SamplingConfig(**options), negative=negative, **condition(), performance=chosen
        )
        for chosen in (RESIDENT, GRAPHS)
    )
    for block in range(7):
        assert torch.equal(replaying.next_block(features(block)), usual.next_block(features(block))), block
    assert len(recorded.made) == 2 * 2 * 3 and replaying.replays
    replaying.drop_unfinished()
    assert not replaying.replays


@pytest.mark.parametrize("moved", [False, True], ids=["unmoved", "moved"])
def test_stages_in_threads_replay_their_steps_and_notice_moves(recorded, moved):
    expected = torch.cat(list(generate(model(), vae(), scene(), VIDEO, FRAMES)))
    stages = [Stage(copy.deepcopy(model()), range(step, step + 1), CPU) for step in range(2)]
    said, found = [], []
    blocks = generate_in_stages(stages, [vae()], scene(), VIDEO, FRAMES, performance=GRAPHS, say=said.append)
    for number, block in enumerate(blocks):
        found.append(block)
        if moved and number == 3:  # while the first stage is ahead
            move(stages[1].model)
    assert torch.equal(torch.cat(found), expected)
    assert said == ([MOVED] if moved else [])


def test_without_an_nvidia_gpu_graphs_are_refused(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="Leave CUDA graphs off: they need an NVIDIA GPU"):
        made()


@pytest.mark.skipif(not torch.cuda.is_available() or bool(obstacle(DEVICE)), reason="needs a GPU")
@pytest.mark.parametrize("moved", [False, True], ids=["unmoved", "moved"])
def test_on_a_gpu_graphs_give_the_same_latents_whether_or_not_weights_are_moved(monkeypatch, moved):
    monkeypatch.undo()
    given = {name: value.to(DEVICE) for name, value in condition().items()}
    found, said = [], []
    for performance in (RESIDENT, GRAPHS):
        network = copy.deepcopy(model()).to(DEVICE)
        sampler = BlockSampler(
            network, SamplingConfig(**OPTIONS), **given, performance=performance, say=said.append
        )
        found.append([])
        for block in range(14):
            if moved and block == 8:
                network.to("cpu")
                spoiled = [
                    torch.full_like(x, 1e4, device=DEVICE) for x in network.parameters() for _ in range(4)
                ]
                network.to(DEVICE)
                assert spoiled
            found[-1].append(sampler.next_block(features(block)))
    for usual, replayed in zip(*found, strict=True):
        assert torch.equal(replayed, usual)
    assert said == ([MOVED] if moved else [])
