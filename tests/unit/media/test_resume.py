"""Going on with a video: the state of the generator, and runs that were stopped, killed, or out of memory or disk."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.saved_tensors import save_tensors
from avatar.media.frames import AvatarStream
from avatar.media.journal import Journal, state_path
from avatar.media.recording import Snapshots, record
from avatar.media.writer import VideoWriter
from safetensors.torch import load_file

try:
    import resource
except ImportError:  # Windows
    resource = None

import tools.pack
from tests.gone_on import check_gone_on
from tests.unit.media.resumable_videos import (
    AHEAD,
    CONFIG,
    FRAMES,
    GIGABYTE,
    H,
    Killed,
    W,
    generated,
    heard,
    in_stages,
    passes,
    passes_with_state,
    pictures,
    sound,
    stream,
    whole,
    whole_video,
)


def test_a_video_of_several_stages_comes_to_rest_for_a_snapshot_and_is_gone_on_with(tmp_path):
    shared, alone = stream(), stream()
    shared._start = in_stages
    path, made, snapshots = generated(tmp_path, shared, stop_after=9 + 3 * 12)
    assert torch.equal(made, whole()[: len(made)]) and snapshots.problem is None
    saved = GenerationState(state_path(path), alone.resumable.fingerprint()).first_frame
    assert 9 <= saved <= len(made)
    finished, rest, _ = generated(tmp_path, alone)
    assert finished == path and torch.equal(rest[:FRAMES], whole()[saved:])
    check_gone_on(pictures(path), pictures(whole_video(tmp_path)), len(made))


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
    np.testing.assert_array_equal(shown[:stop_after], kept)
    check_gone_on(shown, pictures(undisturbed), stop_after)
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
        "from tests.unit.media import resumable_videos as t\n"
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
