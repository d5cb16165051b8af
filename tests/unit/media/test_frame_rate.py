"""A stream in another frame rate."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from avatar.media.frame_rate import at_frame_rate
from avatar.media.frames import AvatarStream, Resumable
from avatar.media.recording import Snapshots, begin, record

GIGABYTE = 10**9


class Counter:
    """A `PassState` of a source that counts: its snapshot is a number in a file."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.first_frame = 0 if path is None else int(path.read_text())
        self.frames: int | None = None

    def settle(self) -> None:
        pass

    def size(self) -> int:
        return 1

    def save(self, path: Path) -> None:
        path.write_text(str(self.frames))

    def release(self) -> None:
        pass


def counting(frames: int | None, fps: float, block: int = 5, closed: list | None = None) -> AvatarStream:
    """A stream whose frames show their number."""

    def start(state: Counter | None = None):
        first = 0 if state is None else state.first_frame
        try:
            while frames is None or first < frames:
                last = first + block if frames is None else min(frames, first + block)
                numbers = torch.arange(first, last, dtype=torch.uint8)
                if state is not None:
                    state.frames = last
                yield numbers[:, None, None, None].expand(-1, 16, 16, 3).contiguous()
                first = last
        finally:
            if closed is not None:
                closed.append(True)

    resumable = Resumable(lambda: f"counting{frames}", Counter)
    audio = {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 8_000}
    return AvatarStream(
        start, frames=frames, width=16, height=16, fps=fps, audio=audio, resumable=frames and resumable
    )


def numbers(blocks) -> list[int]:
    return [int(frame[0, 0, 0]) for block in blocks for frame in block]


@pytest.mark.parametrize(("source", "fps"), [(25, 30), (25, 15), (16, 25), (16, 30), (25, 24), (30, 29.97)])
@pytest.mark.parametrize("frames", [1, 2, 33, 100])
@pytest.mark.parametrize("block", [1, 7])
def test_each_frame_is_the_nearest_in_time_and_the_length_stays(source, fps, frames, block):
    changed = at_frame_rate(counting(frames, source, block), fps)
    shown = numbers(changed.blocks())
    assert len(shown) == changed.frames
    assert abs(changed.duration - frames / source) <= 0.5 / source + 0.5 / fps
    for index, number in enumerate(shown):
        assert abs(number / source - index / fps) <= 0.5 / source + 1e-3


def test_sound_and_the_own_rate_stay_as_they_are():
    stream = counting(10, 25)
    assert at_frame_rate(stream, 25) is stream
    changed = at_frame_rate(stream, 30)
    assert changed.audio is stream.audio
    assert (changed.fps, changed.width, changed.height) == (30, 16, 16)


def test_a_live_stream_stays_live_and_its_source_is_closed():
    closed: list[bool] = []
    changed = at_frame_rate(counting(None, 25, closed=closed), 30)
    assert changed.live
    blocks = changed.blocks()
    assert numbers(islice(blocks, 3)) == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 13, 14]
    blocks.close()
    assert closed == [True]


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="Set fps"):
        at_frame_rate(counting(10, 25), 0)


def test_the_rate_tells_videos_apart():
    stream = counting(10, 25)
    found = {at_frame_rate(stream, fps).resumable.fingerprint() for fps in (15, 25, 30)}
    assert len(found) == 3


@pytest.mark.parametrize("fps", [15, 30])
def test_an_interrupted_video_is_gone_on_with_from_its_snapshot(tmp_path, monkeypatch, fps):
    monkeypatch.setattr("avatar.media.recording.SHORTEST", 0.0)
    stream = at_frame_rate(counting(40, 25), fps)

    def write(most: int | None) -> tuple[int, list[int]]:
        options = {"width": 16, "height": 16, "fps": fps, "audio": stream.audio}
        with begin(tmp_path, "video", 1, stream.resumable.fingerprint(), **options) as writer:
            before = writer.frames_written
            snapshots = Snapshots(writer.path, GIGABYTE, clock=iter(range(0, 10**6, 100)).__next__)
            blocks = record(stream, writer, snapshots)
            shown = numbers(block for _, block in islice(blocks, most))
            if most is not None:
                raise KeyboardInterrupt
            return before, shown

    with pytest.raises(KeyboardInterrupt):
        write(3)
    before, shown = write(None)
    whole = numbers(stream.blocks())
    assert 0 < before < stream.frames
    assert len(shown) < len(whole), "what the snapshot covers is not made again"
    assert shown == whole[-len(shown) :]
