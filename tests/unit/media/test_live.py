"""Streams that are read while they are written."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import torch
from avatar.media.live import ENDED_STREAMS_KEPT, LiveStream, LiveStreams
from avatar.media.writer import VideoWriter

FPS = 25
SOUND = {"waveform": torch.zeros(1, 1, 8 * 16_000), "sample_rate": 16_000}


def live(workflow: str = "graph", node: str = "7") -> LiveStream:
    return LiveStream(
        fps=FPS,
        total_frames=200,
        place={"filename": "talk.mp4", "subfolder": "", "type": "output"},
        owner={"workflow": workflow, "node": node, "prompt": "run"},
    )


def blocks(count: int, frames: int = 12) -> Iterator[torch.Tensor]:
    for _ in range(count):
        yield torch.randint(0, 256, (frames, 32, 32, 3), dtype=torch.uint8)


def write(stream: LiveStream, path: Path, count: int) -> Iterator[int]:
    """Write a video to the end as the node does; yields the number of frames after each block."""
    with VideoWriter(path, width=32, height=32, fps=FPS, audio=SOUND) as writer, stream.readable(path):
        for block in blocks(count):
            writer.write(block)
            stream.advance(writer.frames_written, writer.mime_type, joinable=writer.joinable)
            yield writer.frames_written


def frames_in(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


def keys_in(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


def read_all(stream: LiveStream, offset: int = 0) -> bytes:
    found = b""
    while piece := stream.read(offset + len(found), 1000):
        found += piece
    return found


def test_who_watches_a_run_that_goes_on_begins_where_it_does(tmp_path):
    path, size = tmp_path / "talk.mp4", {"width": 32, "height": 32, "fps": FPS}
    first = VideoWriter(path, **size, audio=SOUND, fingerprint="f")
    for block in blocks(3):
        first.write(block)
    first.close(complete=False)
    stream = live()
    with VideoWriter(path, **size, audio=SOUND, fingerprint="f") as writer, stream.readable(path):
        held = writer.size
        stream.go_on(writer.frames_written, held)
        writer.write(next(blocks(1)))
        stream.advance(writer.frames_written, writer.mime_type, joinable=writer.joinable)
        status = stream.status()
        assert (status["frames"], status["join"]) == (48, held)
        assert 0 < status["header_size"] < held
        assert read_all(stream, held)[4:8] == b"moof"
        assert frames_in(read_all(stream)) == 48


def test_a_growing_file_is_read_up_to_the_last_whole_block(tmp_path):
    stream = live()
    for frames in write(stream, tmp_path / "talk.mp4", 3):
        assert frames_in(read_all(stream)) == frames
        with (tmp_path / "talk.mp4").open("ab") as file:  # a part of the next block
            file.write(b"part")
        assert stream.read(stream.size, 1000) == b""
        os.truncate(tmp_path / "talk.mp4", stream.size)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace files that are read")
def test_a_reader_gets_the_old_bytes_after_the_file_has_been_replaced(tmp_path):
    stream = live()
    with stream.reader():
        for _ in write(stream, tmp_path / "talk.mp4", 3):
            before = read_all(stream)
        assert stream.complete
        assert (tmp_path / "talk.mp4").read_bytes() != before
        assert read_all(stream) == before
    assert stream.read(0, 1000) == b""
    with pytest.raises(LookupError, match="finished file"), stream.reader():
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace files that are read")
def test_who_reads_piece_by_piece_gets_the_end_and_is_not_waited_for_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("avatar.media.live.LINGER_SECONDS", 0.3)
    stream = live()
    for _ in write(stream, tmp_path / "talk.mp4", 3):
        with stream.reader(comes_back=True):
            before = read_all(stream)
    with stream.reader(comes_back=True):
        assert read_all(stream) == before
    deadline = time.monotonic() + 10
    while stream.status()["readable"] and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(LookupError, match="finished file"), stream.reader(comes_back=True):
        pass


def test_many_read_at_once_while_it_is_written(tmp_path):
    stream, found = live(), {}

    def follow(name: int) -> None:
        data = b""
        with stream.reader():
            while True:
                complete = stream.complete
                piece = stream.read(len(data), 700 + name)
                data += piece
                if complete and not piece:
                    break
        found[name] = data

    readers = [threading.Thread(target=follow, args=(name,)) for name in range(4)]
    for reader in readers:
        reader.start()
    for _ in write(stream, tmp_path / "talk.mp4", 5):
        pass
    for reader in readers:
        reader.join(30)
    assert [len(data) for data in found.values()] == [stream.size] * 4
    assert len(set(found.values())) == 1
    assert frames_in(found[0]) == 60


def test_who_comes_late_joins_near_the_end(tmp_path):
    stream = live()
    for _ in write(stream, tmp_path / "talk.mp4", 40):
        header, join = stream.status()["header_size"], stream.status()["join"]
        if stream.frames < 250:
            assert join == 0
        else:
            late = frames_in(stream.read(0, header) + read_all(stream, join))
            assert 250 <= late < 250 + 50 + 12 or join == 0, "from the last key frame that is so far back"
            assert join == 0 or keys_in(stream.read(0, header) + read_all(stream, join))[0] == 0
    assert join > header


def test_the_figures_of_a_stream(tmp_path):
    stream = live()
    assert stream.status()["mime_type"] is None and stream.status()["speed"] is None
    for _ in write(stream, tmp_path / "talk.mp4", 2):
        pass
    stream.end("finished")
    status = stream.status()
    assert status["state"] == "finished" and not status["readable"]
    assert (status["frames"], status["total_frames"], status["fps"]) == (24, 200, 25)
    assert status["recent_speed"] == status["speed"]  # of two blocks
    assert status["speed"] > 0 and status["first_frame_seconds"] > 0
    assert status["mime_type"].startswith('video/mp4; codecs="avc1.')
    assert (status["workflow"], status["node"], status["prompt"]) == ("graph", "7", "run")
    assert str(tmp_path) not in repr(status)


def test_the_recent_speed_forgets_slow_first_blocks(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("avatar.media.live.time.monotonic", lambda: now)
    stream = live()
    for index, _ in enumerate(write(stream, tmp_path / "talk.mp4", 8)):
        status = stream.status()
        now += 10.0 if index == 0 else 0.5
    assert status["recent_speed"] == pytest.approx(24)
    assert status["speed"] < 7


def test_the_last_stream_of_each_node_of_a_workflow_is_found():
    streams = LiveStreams()
    old, new, other = live(), live(), live(node="8")
    for stream in (old, new, other, live("another graph")):
        streams.add(stream)
    assert streams.latest("graph") == [new, other]
    assert streams.latest("") == []
    assert streams.get(old.id) is old
    assert streams.get("unknown") is None


def test_streams_without_a_workflow_are_in_no_list():
    streams = LiveStreams()
    streams.add(live(workflow=None))
    assert streams.latest("None") == streams.latest("") == []


def test_old_ended_streams_are_forgotten_and_running_ones_are_not():
    streams = LiveStreams()
    running = live()
    streams.add(running)
    ended = [live() for _ in range(ENDED_STREAMS_KEPT + 5)]
    for stream in ended:
        streams.add(stream)
        stream.end("finished")
    streams.add(live())
    assert streams.get(running.id) is running
    assert [streams.get(stream.id) for stream in ended[:5]] == [None] * 5
    assert all(streams.get(stream.id) for stream in ended[5:])
