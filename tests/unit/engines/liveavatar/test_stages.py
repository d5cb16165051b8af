"""One video whose steps are shared by several stages, each in a thread of its own; here all on the CPU."""

from __future__ import annotations

import copy
import functools
import threading
import time
from itertools import islice

import pytest
import torch
from avatar.engines.gpu import turns
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import Performance
from avatar.engines.parts.wan.streaming import StreamingDecoder
from avatar.engines.parts.wan.vae import WanVAE

from tests.unit.engines.liveavatar.test_fallback import failing
from tests.unit.engines.liveavatar.test_pipeline import Failing, scene, vae
from tests.unit.tiny_s2v import model, track

CPU = torch.device("cpu")
CONFIG = SamplingConfig(steps=3, frames_per_clip=24)
FRAMES = 12 * 6 - 3


def stages(*counts: int) -> list[Stage]:
    """Stages that do so many steps each."""
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [Stage(model(), range(end - n, end), CPU) for n, end in zip(counts, ends, strict=True)]


@functools.lru_cache
def alone(config: SamplingConfig = CONFIG, frames: int = FRAMES) -> torch.Tensor:
    return torch.cat(list(generate(model(), vae(), scene(), config, frames)))


def shared(
    counts: tuple[int, ...], config: SamplingConfig = CONFIG, frames=FRAMES, given=None, vaes=None, **options
):
    return generate_in_stages(stages(*counts), vaes or [vae()], given or scene(), config, frames, **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("avatar")]


@pytest.mark.parametrize(
    ("steps", "counts"), [(4, (2, 2)), (4, (3, 1)), (4, (1, 1, 1, 1)), (3, (1, 2)), (3, (1, 1, 1)), (2, (2,))]
)
@pytest.mark.parametrize("clip", [12, 24])
def test_any_partition_gives_the_single_samplers_frames_bit_for_bit(steps, counts, clip):
    config = SamplingConfig(steps=steps, frames_per_clip=clip)
    assert torch.equal(torch.cat(list(shared(counts, config))), alone(config))


@pytest.mark.parametrize("decoders", [2, 3])
@pytest.mark.parametrize("take_turns", [False, True])
def test_decoders_that_take_turns_give_the_same_frames(monkeypatch, decoders, take_turns):
    monkeypatch.setattr(turns, "answers_at_once", lambda device: not take_turns)
    asked, decode = [], WanVAE.decode_next

    def watched(self, *args):
        asked.append(self)
        return decode(self, *args)

    monkeypatch.setattr(WanVAE, "decode_next", watched)
    alike = [vae(), *(vae().on(CPU) for _ in range(decoders - 1))]
    found = torch.cat(list(shared((1, 1, 1), vaes=alike)))
    assert [one for block in range(6) for one in [alike[block % decoders]] * 3] == asked
    assert torch.equal(found, alone())


@pytest.mark.parametrize("times", [1, 2])
def test_a_device_without_room_to_decode_is_passed_over(monkeypatch, times):
    alike, said, left = [vae(), vae().on(CPU)], [], [times]
    decode = WanVAE.decode_next

    def full(self, latent, past, done):
        made = decode(self, latent, past, done)
        if self is alike[1] and left[0] and done % 3 == 1:  # in the middle of a block
            left[0] -= 1
            raise torch.OutOfMemoryError("no memory")
        return made

    monkeypatch.setattr(WanVAE, "decode_next", full)
    expected = alone()
    assert torch.equal(torch.cat(list(shared((1, 2), vaes=alike, say=said.append))), expected)
    assert [text for text in said if "has no room to decode" in text] == said and len(said) == times - 1


@pytest.mark.parametrize(
    "options", [{"replace_sink": False}, {"sink_distance": None}, {"skip_last_step": True}]
)
def test_the_sampling_settings_mean_the_same(options):
    config = SamplingConfig(steps=4, frames_per_clip=24, **options)
    found = torch.cat(list(shared((2, config.forwards - 2), config)))
    assert torch.equal(found, alone(config))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_stages_happen_to_work_changes_nothing(monkeypatch, seed):
    draw, predict = torch.Generator().manual_seed(seed), BlockSampler.predict

    def slowly(self, *args):
        time.sleep(0.02 * torch.rand(1, generator=draw).item())
        return predict(self, *args)

    monkeypatch.setattr(BlockSampler, "predict", slowly)
    assert torch.equal(torch.cat(list(shared((1, 1, 1)))), alone())


def test_stages_that_take_turns_give_the_same_frames(monkeypatch):
    monkeypatch.setattr(turns, "answers_at_once", lambda device: False)
    config = SamplingConfig(steps=4, frames_per_clip=24)
    assert torch.equal(torch.cat(list(shared((1, 2, 1), config))), alone(config))


def test_stages_work_at_the_same_time_on_different_blocks(monkeypatch):
    meeting, predict, met = threading.Barrier(2, timeout=30), BlockSampler.predict, []

    def together(self, inputs, latents, step):
        if (step, inputs.start) in ((0, 6), (1, 3)):  # the third block, and the second one
            meeting.wait()
            met.append(step)
        return predict(self, inputs, latents, step)

    monkeypatch.setattr(BlockSampler, "predict", together)
    config = SamplingConfig(steps=2, frames_per_clip=48)
    list(shared((1, 1), config, 33))
    assert sorted(met) == [0, 1]


def test_no_more_blocks_are_under_way_than_stages_and_one():
    asked = []

    class Counting(Tracks):
        def blocks(self, first=0, after_encoding=lambda: None):
            for features in super().blocks(first):
                asked.append(1)
                yield features

    stream = shared((1, 2), frames=12 * 20, given=scene(speech=Counting([track(10)])))
    for taken, _ in enumerate(islice(stream, 5), 1):
        time.sleep(0.1)
        assert len(asked) <= taken + 3
    stream.close()


def test_frames_that_are_done_come_before_speech_fails():
    found = []
    with pytest.raises(OSError, match="gone"):
        for block in shared((1, 2), frames=90, given=scene(speech=Failing([track(5)]))):
            found.append(block)
    assert torch.equal(torch.cat(found), alone()[:33])


@pytest.mark.parametrize("stage", [0, 1])
def test_the_first_error_of_a_stage_is_raised_behind_frames_that_are_right(monkeypatch, stage):
    predict = BlockSampler.predict

    def broken(self, inputs, latents, step):
        if inputs.start == 9 and step in self.steps and step == stage:
            raise RuntimeError(f"stage {stage} broke")
        return predict(self, inputs, latents, step)

    monkeypatch.setattr(BlockSampler, "predict", broken)
    found = []
    with pytest.raises(RuntimeError, match=f"stage {stage} broke"):
        for block in shared((1, 2)):
            found.append(block)
    done = sum(map(len, found))
    assert done <= 33 and (not found or torch.equal(torch.cat(found), alone()[:done]))


@pytest.mark.parametrize("after", [4, 9, 14])
def test_an_interrupt_stops_every_stage_within_a_step(monkeypatch, after):
    predict, forwards, lock = BlockSampler.predict, [], threading.Lock()
    raised = threading.Event()

    def counted(self, *args):
        flow = predict(self, *args)
        with lock:
            forwards.append(raised.is_set())
        return flow

    checks = []

    def interrupt():
        with lock:
            checks.append(1)
            if len(checks) == after:
                raised.set()
                raise InterruptedError

    monkeypatch.setattr(BlockSampler, "predict", counted)
    with pytest.raises(InterruptedError):
        list(shared((1, 2), frames=12 * 30, check_interrupt=interrupt))
    assert sum(forwards) <= 2  # each other stage at most ends the step that it was doing


def test_an_abandoned_stream_ends_its_threads_and_closes_the_speech():
    closed = []

    class Closing(Tracks):
        def blocks(self, first=0, after_encoding=lambda: None):
            try:
                yield from super().blocks(first)
            finally:
                closed.append(1)

    stream = shared((1, 2), frames=12 * 30, given=scene(speech=Closing([track(20)])))
    next(stream)
    assert not closed
    stream.close()
    assert closed == [1]


def test_live_speech_enters_when_it_is_there_and_ends_the_video():
    speaking, entered = threading.Semaphore(0), []

    class Live(Tracks):
        def blocks(self, first=0, after_encoding=lambda: None):
            for features in islice(super().blocks(first), 3):
                speaking.acquire()
                entered.append(1)
                after_encoding()
                yield features

    called = []
    stream = shared(
        (1, 2),
        frames=None,
        given=scene(speech=Live([track(5)])),
        after_encoding=lambda: called.append(threading.current_thread().name),
    )
    found = []
    for _ in range(3):  # a block comes out without another one behind it
        speaking.release()
        found.append(next(stream))
    assert list(stream) == [] and len(entered) == 3
    assert torch.equal(torch.cat(found), alone()[:33])
    assert called == ["avatar source"] * 3


@functools.cache
def shared_by_two(performance: Performance) -> torch.Tensor:
    """The video of two stages; asked for before anything fails."""
    return torch.cat(list(shared((1, 2), performance=performance)))


def running_out(monkeypatch, step: int, block: int, times: int) -> None:
    """Let a step of a block do its work and then run out of memory, so many times."""
    predict, left = BlockSampler.predict, [times]

    def attempt(self, inputs, latents, number):
        flow = predict(self, inputs, latents, number)
        if (number, inputs.start) == (step, 3 * block) and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("no memory")
        return flow

    monkeypatch.setattr(BlockSampler, "predict", attempt)


@pytest.mark.parametrize(("step", "block"), [(0, 0), (0, 3), (1, 1), (2, 4), ("decoding", 3)])
@pytest.mark.parametrize("performance", [Performance(), Performance(caches=CacheFormat.INT8)], ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_when_memory_runs_out_only_that_stages_caches_move(monkeypatch, step, block, performance, times):
    expected = shared_by_two(performance)
    moved, move, said = [], BlockSampler.move_caches_to_cpu, []

    def watched(self, format, count=None):
        moved.append(self.steps)
        move(self, format, count)

    monkeypatch.setattr(BlockSampler, "move_caches_to_cpu", watched)
    if step == "decoding":
        failing(monkeypatch, StreamingDecoder, "__call__", set(range(block, block + times)))
    else:
        running_out(monkeypatch, step, block, times)
    found = torch.cat(list(shared((1, 2), performance=performance, say=said.append)))
    assert torch.equal(found, expected)
    stage = range(1) if step == 0 else range(1, 3)
    assert moved == [stage] * (times - 1) and len(said) == times - 1


def test_when_nothing_is_left_to_make_smaller_it_is_an_error(monkeypatch):
    running_out(monkeypatch, 1, 2, 4)
    found = []
    with pytest.raises(torch.OutOfMemoryError):
        for block in shared((1, 2), say=lambda _: None):
            found.append(block)
    done = sum(map(len, found))
    assert done <= 21 and (not found or torch.equal(torch.cat(found), alone()[:done]))


@pytest.mark.parametrize("then", [(3,), (1, 2), (2, 1), (1, 1, 1)])
def test_a_saved_video_goes_on_with_any_number_of_stages(tmp_path, then):
    expected = alone(frames=12 * 12 - 3)
    state, reached = GenerationState(), 0
    stream = shared((1, 2), frames=len(expected), state=state)
    for number, block in enumerate(stream):
        reached += len(block)
        if number == 1:
            assert state.frames is None  # stages are ahead
            state.settle()
        if state.frames is not None:
            assert state.frames == reached and number < 8
            state.save(tmp_path / "state")
            break
    found = [next(stream)]  # it goes on behind a rest
    assert torch.equal(found[0], expected[reached : reached + 12])
    stream.close()
    state = GenerationState(tmp_path / "state")
    assert state.first_frame == reached
    if len(then) == 1:
        rest = generate(model(), vae(), scene(), CONFIG, len(expected), state=state)
    else:
        rest = shared(then, frames=len(expected), state=state)
    assert torch.equal(torch.cat(list(rest)), expected[reached:])


def test_a_single_samplers_snapshot_goes_on_in_stages(tmp_path):
    expected, state, reached = alone(), GenerationState(), 0
    for block in islice(generate(model(), vae(), scene(), CONFIG, FRAMES, state=state), 4):
        reached += len(block)
    state.save(tmp_path / "state")
    rest = torch.cat(list(shared((2, 1), state=GenerationState(tmp_path / "state"))))
    assert torch.equal(rest, expected[reached:])


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 1)])
def test_stages_that_do_other_steps_than_the_videos_are_refused(counts):
    with pytest.raises(ValueError, match="have to share 3 steps"):
        next(shared(counts))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_on_two_gpus_the_frames_are_those_of_one(counts):
    one, other = torch.device("cuda", 0), torch.device("cuda", 1)
    models = [copy.deepcopy(model()).to(device) for device in (one, other)]
    decoder = copy.deepcopy(vae())
    decoder.model.to(other)
    ends = (range(counts[0]), range(counts[0], 3))
    parts = [Stage(m, steps, d) for m, steps, d in zip(models, ends, (one, other), strict=True)]
    expected = torch.cat(list(generate(models[1], decoder, scene().on(other), CONFIG, FRAMES)))
    found = torch.cat(list(generate_in_stages(parts, [decoder], scene().on(other), CONFIG, FRAMES)))
    assert (found.int() - expected.int()).abs().max() <= 1
