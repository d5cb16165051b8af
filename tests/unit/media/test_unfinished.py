"""Unfinished videos in a folder: what their journal says, who takes them up, and what killed runs have left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from avatar.media.journal import Damaged, Journal, growing_path, journal_path, state_path
from avatar.media.recording import begin
from avatar.media.unfinished import claim, find_unfinished
from avatar.media.writer import VideoWriter

import tools.pack
from tests.unit.media.resumable_videos import (
    FRAME,
    H,
    Killed,
    W,
    generated,
    grey,
    pictures,
    stream,
)


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
        "from tests.unit.media import resumable_videos as t\n"
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


@pytest.mark.parametrize("fingerprint", ["f", "another"])
def test_a_video_without_a_frame_is_cleared_by_the_next_run_of_any_kind(tmp_path, fingerprint):
    options = {"width": W, "height": H}
    killed = begin(tmp_path, "v", 1, "f", **options)
    (tmp_path / "w_00001_.mp4").touch()  # somebody else's, who may be about to write it
    begin(tmp_path, "w", 2, fingerprint, **options).close()
    assert killed.path.is_file() and journal_path(killed.path).is_file()  # it is being written
    killed._file.close()  # as the end of its process does
    with begin(tmp_path, "v", 1, fingerprint, **options) as writer:
        grey(writer)
    assert names(tmp_path) == ["v_00001_.mp4", "w_00001_.mp4"]


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
