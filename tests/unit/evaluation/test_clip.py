"""Videos of every kind are read, and those that cannot be are named."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from avatar.evaluation.clip import open_file
from avatar.evaluation.measure import measure

from tests.unit.evaluation.videos import clip_of, faces, syllables, voice, write_video

LEVEL = syllables(3, 1)


def test_a_file_gives_its_frames_their_times_and_its_sound(tmp_path):
    clip = open_file(write_video(tmp_path / "a.mp4", faces(LEVEL), voice(LEVEL)))
    pieces = list(clip.pieces())
    assert (clip.width, clip.height, clip.fps, clip.length) == (64, 64, 25, 75)
    assert torch.cat([piece.times for piece in pieces]).tolist() == pytest.approx([i / 25 for i in range(75)])
    read = torch.cat([piece.frames for piece in pieces])
    assert (read.float() - faces(LEVEL).float()).abs().mean() < 12
    assert clip.sound()["sample_rate"] == 16_000
    assert clip.notes == []


def test_a_stream_and_its_file_are_measured_alike(tmp_path):
    of_file = measure(open_file(write_video(tmp_path / "a.mp4", faces(LEVEL), voice(LEVEL))))
    of_stream = measure(clip_of(faces(LEVEL), voice(LEVEL)))
    values = [{one.metric.name: one.value for one in found.scores} for found in (of_file, of_stream)]
    assert values[0]["T.Flicker"] == pytest.approx(values[1]["T.Flicker"], abs=0.01)
    assert values[0]["F0"] == pytest.approx(values[1]["F0"], rel=0.02)


def test_a_variable_frame_rate_is_noted_and_measured(tmp_path):
    times = [number + (number > 30) * 4 + (number > 50) for number in range(75)]
    clip = open_file(write_video(tmp_path / "a.mp4", faces(LEVEL), voice(LEVEL), times))
    found = measure(clip)
    assert found.frames == 75
    assert found.seconds == pytest.approx(80 / 25, abs=0.05)
    assert "not constant" in found.notes[0]


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no video"):
        open_file(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"Make text\.mp4 again: it cannot be read"):
        open_file(tmp_path / "text.mp4")


def test_a_damaged_video_is_an_error_and_no_short_result(tmp_path):
    path = write_video(tmp_path / "a.mp4", faces(LEVEL))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Make a\.mp4 again"):
        measure(open_file(path))


def test_memory_does_not_grow_with_the_length():
    def peak(seconds: int) -> int:
        frames = torch.zeros(12, 64, 64, 3, dtype=torch.uint8)
        clip = clip_of(frames.expand(12, 64, 64, 3))
        clip.pieces, one = (lambda: repeated(one, seconds * 2)), clip.pieces
        tracemalloc.start()
        measure(clip)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    def repeated(pieces, times):
        for number in range(times):
            for piece in pieces():
                yield type(piece)(piece.times + number * 0.48, piece.frames.clone())

    assert peak(40) < peak(10) + 1_000_000
