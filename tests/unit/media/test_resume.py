"""Going on with a video: state of the generator, journal of the file, both together."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.saved_tensors import save_tensors
from avatar.engines.parts.wan.vae import WanVAE
from avatar.media.frames import AvatarStream, Resumable
from avatar.media.journal import Damaged, Journal, growing_path, journal_path, state_path
from avatar.media.recording import Snapshots, begin, record
from avatar.media.unfinished import claim, find_unfinished
from avatar.media.writer import VideoWriter
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file

try:
    import resource
except ImportError:  # Windows
    resource = None

import tools.pack
from tests.unit.tiny_s2v import HEIGHT, WIDTH, condition, model, track

W, H = 8 * WIDTH, 8 * HEIGHT
CONFIG = SamplingConfig(steps=2, frames_per_clip=24)
FRAMES = 9 + 4 * 12 + 5  # six blocks, the last one in part
RATE = 24_000
GIGABYTE = 10**9
AHEAD = Performance(ahead=True)


class Killed(BaseException):
    """Stands for whatever ends a run."""


@functools.lru_cache
def vae() -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=1, decoder_base_dim=1).eval().requires_grad_(False))


def passes(
    config: SamplingConfig = CONFIG,
    state: GenerationState | None = None,
    check=lambda: None,
    performance: Performance = RESIDENT,
) -> Iterator[torch.Tensor]:
    scene = Scene(**condition(), speech=Tracks([track(6)]))
    return generate(model(), vae(), scene, config, FRAMES, check, state=state, performance=performance)


@functools.lru_cache
def whole(config: SamplingConfig = CONFIG) -> torch.Tensor:
    """The frames of a run that nothing has disturbed."""
    return torch.cat(list(passes(config)))[:FRAMES]


def sound() -> dict:
    time = torch.arange(FRAMES * RATE // 25) / RATE
    return {
        "waveform": (0.5 * torch.sin(2 * torch.pi * 200 * time * (1 + time / 8)))[None, None],
        "sample_rate": RATE,
    }


def passes_with_state(state: GenerationState | None = None) -> Iterator[torch.Tensor]:
    return passes(state=state)


def stream(
    config: SamplingConfig = CONFIG, check=lambda: None, performance: Performance = RESIDENT
) -> AvatarStream:
    return AvatarStream(
        lambda state=None: passes(config, state, check, performance),
        frames=FRAMES,
        width=W,
        height=H,
        audio=sound(),
        resumable=Resumable(lambda: repr(config), GenerationState, {"seed": config.seed}),
    )


def generated(
    folder: Path,
    video: AvatarStream,
    limit: int = GIGABYTE,
    stop_after: int | None = None,
    say=logging.warning,
) -> tuple:
    """What the node does: a file that is begun or gone on with; ends with `Killed` behind ``stop_after`` frames.

    Returns the path, the frames that the pass has made in order (repeated ones too) and the snapshots.
    """
    made, clock = [], [0.0]
    options = {"width": W, "height": H, "audio": video.audio, "about": video.resumable.about}
    writer = begin(folder, "v", 1, video.resumable.fingerprint(), say, **options)
    path = writer.path
    try:
        with writer:
            snapshots = Snapshots(path, limit, clock=lambda: clock[0])
            with closing(record(video, writer, snapshots, say)) as blocks:
                for reached, block in blocks:
                    clock[0] += 10
                    made.append(block)
                    if stop_after and reached >= stop_after:
                        raise Killed
    except Killed:
        pass
    return path, torch.cat(made), snapshots


def whole_video(folder: Path) -> Path:
    """The file of a run that nothing has disturbed."""
    path = folder / "whole.mp4"
    with VideoWriter(path, width=W, height=H, audio=sound()) as writer:
        for block in torch.tensor_split(whole(), [*range(9, FRAMES, 12)]):
            writer.write(block)
    return path


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def heard(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def in_stages(state: GenerationState | None = None) -> Iterator[torch.Tensor]:
    scene = Scene(**condition(), speech=Tracks([track(6)]))
    stages = [Stage(model(), range(step, step + 1), torch.device("cpu")) for step in range(CONFIG.steps)]
    return generate_in_stages(stages, vae(), scene, CONFIG, FRAMES, state=state)


def test_a_video_of_several_stages_comes_to_rest_for_a_snapshot_and_is_gone_on_with(tmp_path):
    shared, alone = stream(), stream()
    shared._start = in_stages
    path, made, snapshots = generated(tmp_path, shared, stop_after=9 + 3 * 12)
    assert torch.equal(made, whole()[: len(made)]) and snapshots.problem is None
    saved = GenerationState(state_path(path), alone.resumable.fingerprint()).first_frame
    assert 9 <= saved <= len(made)
    finished, rest, _ = generated(tmp_path, alone)
    assert finished == path and torch.equal(rest[:FRAMES], whole()[saved:])
    assert (pictures(path) == pictures(whole_video(tmp_path))).all()


@pytest.mark.parametrize(("blocks", "distance"), [(1, 30), (2, None), (3, 30), (5, None)])
def test_a_restored_state_goes_on_bit_by_bit(tmp_path, blocks, distance):
    config = dataclasses.replace(CONFIG, sink_distance=distance)
    state = GenerationState()
    running = passes(config, state)
    for _ in range(blocks):
        next(running)
    state.save(tmp_path / "state")
    assert state.size() <= (tmp_path / "state").stat().st_size <= state.size() + 20_000
    running.close()
    restored = GenerationState(tmp_path / "state")
    assert restored.first_frame == 9 + 12 * (blocks - 1)
    rest = torch.cat(list(passes(config, restored)))
    assert torch.equal(rest[: FRAMES - restored.first_frame], whole(config)[restored.first_frame :])


def performed(performance: Performance, state: GenerationState, count: int) -> torch.Tensor:
    return torch.cat(list(islice(passes(state=state, performance=performance), count)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (AHEAD, AHEAD),
        (AHEAD, Performance()),
        (Performance(caches=CacheFormat.INT8), Performance(caches=CacheFormat.INT8)),
        (Performance(caches=CacheFormat.ATTENTION8), Performance(caches=CacheFormat.ATTENTION8)),
        (
            Performance(caches=CacheFormat.ATTENTION8, caches_on_cpu=1),
            Performance(caches=CacheFormat.ATTENTION8),
        ),
        (Performance(caches_on_cpu=1), Performance(caches_on_cpu=1)),
        (Performance(caches_on_cpu=2), Performance()),
        (Performance(), Performance(caches_on_cpu=2)),
        (Performance(caches=CacheFormat.INT8, caches_on_cpu=2), Performance()),
    ],
)
def test_caches_of_every_kind_can_be_saved_and_taken_up_by_others(tmp_path, before, after):
    expected = performed(before, GenerationState(), 6)
    state = GenerationState()
    begun = performed(before, state, 4)
    state.save(tmp_path / "state")
    rest = performed(after, GenerationState(tmp_path / "state"), 2)
    assert torch.equal(torch.cat((begun, rest)), expected)


# In the first block of the second clip, before its condition; then at both steps of other blocks.
@pytest.mark.parametrize("check", [4, 6, 9])
@pytest.mark.parametrize("performance", [RESIDENT, AHEAD], ids=str)
def test_the_state_is_good_after_an_interrupt_within_a_block(tmp_path, check, performance):
    done = []

    def interrupt() -> None:
        done.append(1)
        if len(done) == check:
            raise Killed

    state, frames = GenerationState(), 0
    with pytest.raises(Killed):
        for block in passes(state=state, check=interrupt, performance=performance):
            frames += len(block)
    assert state.frames == frames
    state.save(tmp_path / "state")
    rest = torch.cat(list(passes(state=GenerationState(tmp_path / "state"))))
    assert torch.equal(rest[: FRAMES - frames], whole()[frames:])


def test_a_saved_state_is_an_ordinary_safetensors_file_and_replaces_the_one_before(tmp_path):
    values = {
        "a": torch.randn(3, 4).bfloat16(),
        "b": torch.arange(5, dtype=torch.int8),
        "c": torch.randn(2, 3).T,
    }
    for _ in range(2):
        save_tensors(tmp_path / "f", values, {"blocks": "1"})
    found = load_file(tmp_path / "f")
    assert all(torch.equal(found[name], values[name]) for name in values)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_state_of_another_video_and_a_damaged_one_are_refused(tmp_path):
    path = tmp_path / "state"
    state = GenerationState(fingerprint="one")
    next(passes(state=state))
    state.save(path)
    with pytest.raises(ValueError, match="of another video"):
        GenerationState(path, "other")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        GenerationState(path, "one")


def test_a_state_with_other_caches_is_refused_in_one_sentence(tmp_path):
    state = GenerationState()
    running = passes(state=state)
    next(running), next(running)
    state.save(tmp_path / "state")
    three_steps = dataclasses.replace(CONFIG, steps=3)
    with pytest.raises(RuntimeError, match="other memory settings"):
        next(passes(three_steps, GenerationState(tmp_path / "state")))


@pytest.mark.parametrize("limit", [GIGABYTE, 0], ids=["from a snapshot", "from the beginning"])
@pytest.mark.parametrize(("stop_after", "performance"), [(9, RESIDENT), (33, RESIDENT), (33, AHEAD)], ids=str)
def test_a_stopped_run_goes_on_in_its_file(tmp_path, stop_after, performance, limit):
    path, _, _ = generated(tmp_path, stream(performance=performance), limit, stop_after)
    kept = pictures(path)
    assert len(kept) == stop_after
    assert b"moof" not in path.read_bytes(), "what is kept is an ordinary file"
    again, made, _ = generated(tmp_path, stream(), limit)
    assert again == path and [file.name for file in tmp_path.iterdir()] == [path.name]
    assert len(made) == FRAMES - (stop_after if limit else 0)
    assert torch.equal(made, whole()[-len(made) :])
    shown = pictures(path)
    assert len(shown) == FRAMES
    undisturbed = whole_video(tmp_path)
    np.testing.assert_array_equal(shown, pictures(undisturbed))
    np.testing.assert_allclose(heard(path), heard(undisturbed), atol=2e-2)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(FRAMES / 25, abs=1e-3)
        assert container.streams.video[0].frames == FRAMES


def test_a_run_may_be_stopped_again_and_again(tmp_path):
    parts = []
    for stop in (21, 33, None):
        path, made, _ = generated(tmp_path, stream(), stop_after=stop)
        parts.append(made)
    assert torch.equal(torch.cat(parts), whole())
    assert len(pictures(path)) == FRAMES and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_seed_begins_a_file_of_its_own_and_leaves_the_unfinished_one(tmp_path):
    first, _, _ = generated(tmp_path, stream(), stop_after=21)
    other, made, _ = generated(tmp_path, stream(dataclasses.replace(CONFIG, seed=7)))
    assert other != first and len(made) == FRAMES
    assert len(pictures(first)) == 21
    again, made, _ = generated(tmp_path, stream())
    assert again == first and len(made) == FRAMES - 21


@pytest.mark.parametrize("performance", [RESIDENT, AHEAD], ids=str)
def test_a_run_that_runs_out_of_memory_keeps_its_file_and_can_be_gone_on_with(tmp_path, performance):
    checks = []

    def check() -> None:
        checks.append(1)
        if len(checks) >= 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        generated(tmp_path, stream(check=check, performance=performance))
    (path,) = tmp_path.glob("*.mp4")
    kept = len(pictures(path))
    assert 0 < kept < FRAMES and state_path(path).is_file()
    again, made, _ = generated(tmp_path, stream())
    assert again == path and torch.equal(made, whole()[kept:])


def test_a_run_that_was_stopped_when_all_was_made_only_has_to_be_finished(tmp_path):
    frames = 9 + 2 * 12  # whole blocks, so that there is a state at the very end

    def short() -> AvatarStream:
        return AvatarStream(
            passes_with_state, frames=frames, width=W, height=H, audio=sound(), resumable=stream().resumable
        )

    path, _, _ = generated(tmp_path, short(), stop_after=frames)
    assert state_path(path).is_file()
    with VideoWriter(path, width=W, height=H, audio=sound(), fingerprint=repr(CONFIG)) as writer:
        assert list(record(short(), writer, Snapshots(path, GIGABYTE))) == []
    assert len(pictures(path)) == frames and list(tmp_path.iterdir()) == [path]


def test_a_damaged_snapshot_costs_time_only(tmp_path):
    path, _, _ = generated(tmp_path, stream(), stop_after=33)
    state_path(path).write_bytes(b"nothing")
    again, made, _ = generated(tmp_path, stream())
    assert again == path and torch.equal(made, whole())
    assert len(pictures(path)) == FRAMES


def killed(folder: Path) -> Path:
    """What a process leaves that is killed in the middle of its fifth block."""
    script = (
        f"import os, signal, sys; sys.path.insert(0, {str(tools.pack.ROOT)!r})\n"
        "import torch; torch.set_num_threads(1)\n"
        "import tools.pack\n"
        "from pathlib import Path\n"
        "from tests.unit.media import test_resume as t\n"
        "checks = []\n"
        "def check():\n"
        "    checks.append(1)\n"
        "    if len(checks) == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"t.generated(Path({str(folder)!r}), t.stream(check=check))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tools.pack.ROOT, check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (path,) = folder.glob("*.mp4")
    return path


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_killed_process_leaves_a_file_that_another_one_goes_on_with(tmp_path):
    path = killed(tmp_path)
    kept = len(pictures(path))
    assert kept == 9 + 3 * 12 and Journal.read(path).frames == kept
    assert b"moof" in path.read_bytes()
    with path.open("ab") as file:
        file.write(b"half a fragment")
    again, made, _ = generated(tmp_path, stream())
    assert again == path and torch.equal(made, whole()[-len(made) :])
    assert 0 < FRAMES - len(made) <= kept, "the last snapshot is no newer than the file"
    assert len(pictures(path)) == FRAMES
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(resource is None, reason="needs a limit to the size of files")
def test_a_full_disk_keeps_whole_blocks_and_another_run_goes_on(tmp_path):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, usual[1]))
    try:
        with pytest.raises(
            OSError, match=r"Cannot go on writing .* are kept there and play, and the same run can"
        ):
            generated(tmp_path, stream())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    (path,) = tmp_path.glob("*.mp4")
    kept = len(pictures(path))
    assert 0 < kept < FRAMES and Journal.read(path).frames == kept
    again, _, _ = generated(tmp_path, stream())
    assert again == path and len(pictures(path)) == FRAMES


def test_the_journal_says_what_the_file_holds(tmp_path):
    path, _, _ = generated(tmp_path, stream(), stop_after=33)
    written = json.loads(journal_path(path).read_text())
    assert written["frames"] == 33 and written["fragments"] == 3 and written["about"] == {"seed": 42}
    assert written["size"] == growing_path(path).stat().st_size


def claimed(path: Path, fingerprint: str) -> bool:
    found = claim(path, fingerprint)
    if found:
        found.file.close()
    return found is not None


def test_what_does_not_fit_the_journal_is_not_gone_on_with(tmp_path):
    video = stream()
    path, _, _ = generated(tmp_path, video, stop_after=33)
    fingerprint = video.resumable.fingerprint()
    assert claimed(path, fingerprint) and not claimed(path, "other")
    growing, journal = growing_path(path).read_bytes(), journal_path(path).read_text()
    for broken in (growing[:-1], b"\0" * len(growing), growing[:-9] + b"\0" * 9):
        growing_path(path).write_bytes(broken)
        with pytest.raises(Damaged, match=r"v_00001_\.mp4\.resume was changed"):
            claim(path, fingerprint)
    growing_path(path).write_bytes(growing)
    assert claimed(path, fingerprint)
    others = [journal.replace('"version": 2', '"version": 3'), journal.replace("33", "32")]
    for broken in ("", "[]", "[" * 100_000, "{}" * 1_000_000, journal.replace("33", '"33"'), *others):
        journal_path(path).write_text(broken)
        with pytest.raises(Damaged, match=r"v_00001_\.mp4\.resume\.json is damaged"):
            claim(path, fingerprint)


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    writer = VideoWriter(tmp_path / "v_00001_.mp4", width=W, height=H, fingerprint="f")
    writer.write(torch.zeros(3, H, W, 3, dtype=torch.uint8))
    assert find_unfinished(tmp_path, "v", "f") is None
    writer.close(complete=False)
    assert find_unfinished(tmp_path, "v", "f") == writer.path


FRAME = {"width": W, "height": H}


def grey(writer: VideoWriter, blocks: int = 1) -> None:
    for _ in range(blocks):
        writer.write(torch.full((3, H, W, 3), 128, dtype=torch.uint8))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fingerprint", [None, "f"])
def test_two_runs_that_begin_at_the_same_moment_write_two_files(tmp_path, fingerprint):
    writers = [begin(tmp_path, "v", 1, fingerprint, **FRAME) for _ in range(2)]
    for writer in writers * 2:
        grey(writer)
    for writer in writers:
        writer.close()
    assert names(tmp_path) == ["v_00001_.mp4", "v_00002_.mp4"]
    assert [len(pictures(path)) for path in sorted(tmp_path.iterdir())] == [6, 6]


def test_only_one_of_two_runs_goes_on_with_an_unfinished_video(tmp_path):
    first = begin(tmp_path, "v", 1, "f", **FRAME)
    grey(first)
    first.close(complete=False)
    one, other = (begin(tmp_path, "v", 2, "f", **FRAME) for _ in range(2))
    assert (one.path.name, one.frames_written) == ("v_00001_.mp4", 3)
    assert (other.path.name, other.frames_written) == ("v_00002_.mp4", 0)
    for writer in (one, other):
        grey(writer)
        writer.close()
    assert [len(pictures(path)) for path in sorted(tmp_path.iterdir())] == [6, 3]


def test_a_run_that_was_slower_to_take_a_video_leaves_the_finished_one_alone(tmp_path, monkeypatch):
    first = begin(tmp_path, "v", 1, "f", **FRAME)
    grey(first)
    first.close(complete=False)

    def slow(folder: Path, name: str, fingerprint: str, say) -> Path | None:
        found = find_unfinished(folder, name, fingerprint, say)
        with VideoWriter(found, fingerprint=fingerprint, **FRAME) as faster:
            grey(faster)
        return found

    monkeypatch.setattr("avatar.media.recording.find_unfinished", slow)
    late = begin(tmp_path, "v", 1, "f", **FRAME)
    assert late.path.name == "v_00002_.mp4"
    late.close()
    assert names(tmp_path) == ["v_00001_.mp4"] and len(pictures(tmp_path / "v_00001_.mp4")) == 6


def test_two_hosts_in_one_folder_write_two_whole_videos(tmp_path):
    script = (
        f"import sys, time; sys.path.insert(0, {str(tools.pack.ROOT)!r})\n"
        "from pathlib import Path\n"
        "import tools.pack\n"
        "from tests.unit.media import test_resume as t\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "(folder / f'ready.{sys.argv[1]}').touch()\n"
        "while len(list(folder.glob('ready.*'))) < 2: time.sleep(0.001)\n"
        "with t.begin(folder, 'v', 1, 'f', **t.FRAME) as writer: t.grey(writer, 20)\n"
    )
    hosts = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], cwd=tools.pack.ROOT)
        for number in (1, 2)
    ]
    assert [host.wait(120) for host in hosts] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("*.mp4*")) == ["v_00001_.mp4", "v_00002_.mp4"]
    assert [len(pictures(path)) for path in tmp_path.glob("*.mp4")] == [60, 60]


def test_what_killed_runs_have_left_is_cleared_by_the_next_one(tmp_path):
    finished = tmp_path / "v_00001_.mp4"
    with VideoWriter(finished, **FRAME) as writer:
        grey(writer)
    # Killed between the finished video and the removal of what was needed to go on with it,
    Journal("f", frames=3, fragments=1, size=99, digest="x").write(finished)
    state_path(finished).write_bytes(b"large")
    # while a snapshot and an index were written,
    unfinished = VideoWriter(tmp_path / "v_00002_.mp4", **FRAME, fingerprint="other")
    grey(unfinished)
    unfinished.close(complete=False)
    for left in (".resume.safetensors.new", ".resume.json.new", ".finishing.mp4"):
        unfinished.path.with_name(unfinished.path.name + left).write_bytes(b"half")
    # and one whose video is gone; what is no file of ours stays.
    state_path(tmp_path / "w_00001_.mp4").write_bytes(b"large")
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    begin(tmp_path, "v", 3, "f", **FRAME).close()
    useful = ["v_00002_.mp4", "v_00002_.mp4.resume", "v_00002_.mp4.resume.json"]
    assert names(tmp_path) == ["model.safetensors", "v_00001_.mp4", *useful]


def test_nothing_of_a_running_host_is_cleared(tmp_path):
    running = begin(tmp_path, "v", 1, "f", **FRAME)
    grey(running)
    (tmp_path / "v_00001_.mp4.resume.safetensors.new").write_bytes(b"half")
    before = names(tmp_path)
    begin(tmp_path, "w", 1, None, **FRAME).close()
    assert names(tmp_path) == before
    running.close()


def test_only_files_of_the_same_name_are_gone_on_with(tmp_path):
    for name in ("v_00001_.mp4", "v_x_00002_.mp4", "[v]_00003_.mp4"):
        with (
            pytest.raises(Killed),
            VideoWriter(tmp_path / name, width=W, height=H, fingerprint="f") as writer,
        ):
            writer.write(torch.zeros(3, H, W, 3, dtype=torch.uint8))
            raise Killed
    assert find_unfinished(tmp_path, "[v]", "f").name == "[v]_00003_.mp4"
    assert find_unfinished(tmp_path, "v_x", "f").name == "v_x_00002_.mp4"
    assert find_unfinished(tmp_path, "v", "f").name == "v_00001_.mp4"
    assert find_unfinished(tmp_path, "w", "f") is None


class State:
    """A pass whose state has a size and takes time to save."""

    first_frame, frames = 0, 9

    def __init__(self, clock: list[float], size: int = 1000, takes: float = 1.0) -> None:
        self.clock, self._size, self.takes = clock, size, takes

    def size(self) -> int:
        return self._size

    def save(self, path: Path) -> None:
        self.clock[0] += self.takes
        path.write_bytes(b"x" * self._size)


def test_snapshots_cost_a_small_part_of_the_time(tmp_path):
    clock = [0.0]
    snapshots = Snapshots(tmp_path / "v.mp4", GIGABYTE, clock=lambda: clock[0])
    state, spent = State(clock), 0.0
    while clock[0] < 1000:
        clock[0] += 0.5
        if snapshots.due(state):
            snapshots.take(state)
            spent += 1
    assert 20 <= spent <= 31


def test_a_snapshot_at_the_end_is_taken_only_if_it_saves_more_than_it_costs(tmp_path):
    clock = [0.0]
    snapshots = Snapshots(tmp_path / "v.mp4", GIGABYTE, clock=lambda: clock[0])
    large = State(clock, size=500_000_000)  # a second at the speed that a disk is expected to have
    clock[0] = 4
    assert not snapshots.worth(large)
    clock[0] = 6
    assert snapshots.worth(large)


def test_snapshots_stay_within_the_room_given_for_them(tmp_path):
    clock = [0.0]
    for age, name in enumerate(("old", "new")):
        state_path(tmp_path / f"{name}.mp4").write_bytes(b"x" * 400)
        os.utime(state_path(tmp_path / f"{name}.mp4"), (age, age))
    Snapshots(tmp_path / "v.mp4", 1500, clock=lambda: clock[0]).take(State(clock))
    assert {path.name for path in tmp_path.iterdir()} == {
        state_path(Path("v.mp4")).name,
        state_path(Path("new.mp4")).name,
    }
    too_small = Snapshots(tmp_path / "w.mp4", 999, clock=lambda: clock[0])
    too_small.take(State(clock))
    assert "0 GB are given" in too_small.problem and len(list(tmp_path.iterdir())) == 2


def test_a_disk_without_room_costs_the_snapshot_and_not_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    path, made, snapshots = generated(tmp_path, stream())
    assert len(made) == FRAMES and "0.0 GB of disk space are free" in snapshots.problem
    assert len(pictures(path)) == FRAMES
