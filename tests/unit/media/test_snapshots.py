"""When snapshots are written, and the room and time that they may take."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from avatar.engines.parts.saved_tensors import save_tensors
from avatar.media.journal import state_path
from avatar.media.recording import Snapshots

from tests.unit.media.resumable_videos import FRAMES, GIGABYTE, generated, pictures, stream


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


def test_a_disk_that_is_too_slow_ends_them_and_leaves_nothing_behind(tmp_path, monkeypatch):
    """Each look at the clock comes a minute after the one before."""
    monkeypatch.setattr("avatar.engines.parts.saved_tensors.time.monotonic", itertools.count(0, 60).__next__)
    said: list[str] = []
    snapshots = Snapshots(tmp_path / "v.mp4", GIGABYTE, said.append, clock=itertools.count().__next__)

    class Slow(State):
        def save(self, path: Path) -> None:
            save_tensors(path, {"a": torch.zeros(6_000_000, dtype=torch.uint8)}, {})

    snapshots.take(Slow([0.0]))
    assert said == [snapshots.problem] == ["No snapshot is taken: the disk takes 0 MB a second."]
    assert not list(tmp_path.iterdir()) and not snapshots.due(Slow([0.0]))
