"""VideoWriter: a file that plays while it grows, in sync, and that the core's video classes can read."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar.media.fragments import FragmentEncoder
from avatar.media.speech_feed import SpeechFeed
from avatar.media.writer import VideoWriter

import tools.pack

W, H = 64, 32
BLOCK = 12


def block(index: int, frames: int = BLOCK) -> torch.Tensor:
    """Frames whose grey level tells their number."""
    levels = (torch.arange(frames) + index * BLOCK) * 3 % 240
    return levels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, H, W, 3).contiguous()


def sound(rate: int, seconds: float, channels: int = 1, clicks: tuple[float, ...] = ()) -> dict:
    waveform = torch.zeros(1, channels, round(rate * seconds))
    for time in clicks:
        waveform[..., round(time * rate) : round(time * rate) + max(4, rate // 2000)] = 0.9
    return {"waveform": waveform, "sample_rate": rate}


def pictures(path) -> list[int]:
    with av.open(str(path)) as container:
        return [round(float(frame.to_ndarray(format="rgb24").mean())) for frame in container.decode(video=0)]


def key_frames(path) -> list[int]:
    with av.open(str(path)) as container:
        return [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]


def samples(path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), frames[0].sample_rate


def write(path, blocks: int = 4, **options) -> Path:
    with VideoWriter(path, width=W, height=H, **options) as writer:
        for index in range(blocks):
            writer.write(block(index))
    return Path(path)


def test_every_finished_block_plays_while_the_file_grows(tmp_path):
    path, copy = tmp_path / "a.mp4", tmp_path / "copy.mp4"
    with VideoWriter(path, width=W, height=H, audio=sound(24000, 10)) as writer:
        for index in range(4):
            writer.write(block(index))
            shutil.copy(path, copy)
            expected = torch.cat([block(i) for i in range(index + 1)])[:, 0, 0, 0].tolist()
            assert len(pictures(copy)) == writer.frames_written == (index + 1) * BLOCK
            assert np.abs(np.array(pictures(copy)) - expected).max() <= 2
            heard = samples(copy)[0].shape[1] / 24000
            assert writer.seconds_written <= heard < writer.seconds_written + 1024 / 24000


def test_a_killed_process_leaves_all_finished_blocks(tmp_path):
    path = tmp_path / "a.mp4"
    script = (
        "import os, signal, torch, tools.pack\n"
        "from avatar.media.writer import VideoWriter\n"
        f"audio = {{'waveform': torch.zeros(1, 1, 48000), 'sample_rate': 16000}}\n"
        f"writer = VideoWriter({str(path)!r}, width={W}, height={H}, audio=audio)\n"
        f"for _ in range(3): writer.write(torch.zeros({BLOCK}, {H}, {W}, 3, dtype=torch.uint8))\n"
        "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tools.pack.ROOT, check=False)
    assert done.returncode != 0
    assert len(pictures(path)) == 3 * BLOCK
    assert samples(path)[0].shape[1] >= 3 * BLOCK / 25 * 16000


def test_a_block_cut_in_half_does_not_harm_the_ones_before(tmp_path):
    encoder = FragmentEncoder(width=W, height=H, audio=sound(24000, 2))
    parts = [encoder.encode(block(index)) for index in range(3)]
    path = tmp_path / "a.mp4"
    path.write_bytes(parts[0] + parts[1] + parts[2][: len(parts[2]) // 2])
    with av.open(str(path)) as container:
        seen = 0
        for packet in container.demux(video=0):
            seen += sum(1 for _ in packet.decode()) if packet.size else 0
            if seen == 2 * BLOCK:
                break
    assert seen == 2 * BLOCK


@pytest.mark.parametrize("fps", [25, 30, 29.97])
def test_length_rate_and_frame_count_are_in_the_finished_file(tmp_path, fps):
    path = write(tmp_path / "a.mp4", fps=fps, audio=sound(24000, 10))
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert float(video.average_rate) == pytest.approx(fps, rel=1e-3)
        assert video.frames == 4 * BLOCK
        assert container.duration / av.time_base == pytest.approx(4 * BLOCK / fps, abs=1e-3)
        assert (video.width, video.height, video.codec.name) == (W, H, "h264")
        times = [frame.time for frame in container.decode(video)]
    assert times == pytest.approx([index / fps for index in range(4 * BLOCK)], abs=1e-3)


def test_the_finished_file_has_its_index_first_and_can_seek(tmp_path):
    path = write(tmp_path / "a.mp4", blocks=10, audio=sound(24000, 10))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat") and b"moof" not in data
    with av.open(str(path)) as container:
        container.seek(int(3.3 * av.time_base))
        frame = next(container.decode(video=0))
    assert frame.time == pytest.approx(60 / 25), "the key frame that begins the block"
    assert list(tmp_path.iterdir()) == [path]


def test_sound_and_picture_stay_together_for_a_minute(tmp_path):
    rate = 24000
    flashes = (0.0, 10.0, 30.0, 59.0)
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=W, height=H, audio=sound(rate, 70, clicks=flashes)) as writer:
        for first in range(0, 1500, BLOCK):
            frames = torch.zeros(BLOCK, H, W, 3, dtype=torch.uint8)
            for time in flashes:
                if first <= time * 25 < first + BLOCK:
                    frames[round(time * 25) - first] = 255
            writer.write(frames)
    with av.open(str(path)) as container:
        seen = [f.time for f in container.decode(video=0) if f.to_ndarray(format="rgb24").mean() > 128]
    heard, _ = samples(path)
    assert seen == pytest.approx(list(flashes))
    for time in flashes:
        around = np.abs(heard[0, max(0, round((time - 0.5) * rate)) : round((time + 0.5) * rate)])
        at = int(around.argmax()) / rate + max(0.0, time - 0.5)
        assert abs(at - time) < 0.002
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        assert audio.duration * audio.time_base == 60
    assert 0 <= heard.shape[1] - 60 * rate < 1024, "decoders give whole packets"


@pytest.mark.parametrize(
    ("rate", "channels", "kept_rate", "kept_channels"),
    [
        (8000, 1, 8000, 1),
        (16000, 1, 16000, 1),
        (44100, 2, 44100, 2),
        (96000, 2, 96000, 2),
        (192000, 1, 96000, 1),
        (4000, 1, 7350, 1),
        (37800, 1, 44100, 1),
        (48000, 6, 48000, 6),
        (48000, 7, 48000, 1),
        (48000, 8, 48000, 1),
    ],
)
def test_rate_and_channels_are_kept_where_aac_can(tmp_path, rate, channels, kept_rate, kept_channels):
    path = write(tmp_path / "a.mp4", audio=sound(rate, 3, channels, clicks=(0.5, 1.5)))
    heard, heard_rate = samples(path)
    assert (heard_rate, len(heard)) == (kept_rate, kept_channels)
    exact = round(4 * BLOCK / 25 * kept_rate)
    assert 0 <= heard.shape[1] - exact < 1024
    assert abs(int(np.abs(heard[0, :kept_rate]).argmax()) / kept_rate - 0.5) < 0.002
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        assert audio.duration * audio.time_base * kept_rate == exact


def test_short_sound_goes_on_as_silence(tmp_path):
    tone = torch.sin(torch.arange(2400) * 0.2).view(1, 1, -1)
    heard, _ = samples(write(tmp_path / "a.mp4", audio={"waveform": tone, "sample_rate": 24000}))
    assert heard.shape[1] >= round(4 * BLOCK / 25 * 24000)
    assert np.abs(heard[0, :2400]).max() > 0.5 and np.abs(heard[0, 6000:]).max() < 1e-3


def test_a_video_without_sound(tmp_path):
    path = write(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        assert not container.streams.audio
    assert len(pictures(path)) == 4 * BLOCK


def test_blocks_of_any_length(tmp_path):
    path = tmp_path / "a.mp4"
    lengths, begun = [9, 1, 12, 30, 3, 60, 1, 2], []
    with VideoWriter(path, width=W, height=H, audio=sound(48000, 5)) as writer:
        for length in lengths:
            begins = writer.frames_written
            writer.write(block(0, length))
            begun += [begins] * writer.joinable
    assert len(pictures(path)) == sum(lengths)
    assert key_frames(path) == begun == [0, 52, 115], "the first block in each two seconds"


def test_one_encoder_goes_on_over_blocks(tmp_path):
    """A key frame shows: at borders of blocks that begin with none, a file changes as inside of blocks."""
    noise = torch.rand(80, 160, 3, generator=torch.Generator().manual_seed(1)) * 160
    rows = torch.arange(64)[:, None] + torch.arange(96)
    frames = torch.stack([noise[:64, at : at + 96] + rows[..., None] / 2 for at in range(48)]).to(torch.uint8)
    with VideoWriter(tmp_path / "a.mp4", width=96, height=64) as writer:
        for part in frames.split(BLOCK):
            writer.write(part)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    made = frames.numpy().astype(int)
    wrong = np.abs(np.diff(shown.astype(int) - made, axis=0)).mean(axis=(1, 2, 3))
    borders = wrong[BLOCK - 1 :: BLOCK]
    assert borders.mean() < 1.1 * np.delete(wrong, np.s_[BLOCK - 1 :: BLOCK]).mean()


def test_a_resumed_file_begins_with_a_key_frame_and_has_the_others_where_they_were(tmp_path):
    whole = write(tmp_path / "whole.mp4", blocks=10)
    path = tmp_path / "a.mp4"
    first = VideoWriter(path, width=W, height=H, fingerprint="f")
    for index in range(3):
        first.write(block(index))
    first.close(complete=False)
    with VideoWriter(path, width=W, height=H, fingerprint="f") as writer:
        for index in range(3, 10):
            writer.write(block(index))
    assert key_frames(whole) == [0, 60, 108]
    assert key_frames(path) == [0, 36, 60, 108]


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (16, 235, 128)])
def test_colours_survive_and_are_labelled(tmp_path, colour):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=W, height=H) as writer:
        writer.write(torch.tensor(colour, dtype=torch.uint8).expand(3, H, W, 3).contiguous())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 1), "BT.601, limited range"
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - colour).max() <= 4


def test_workflow_metadata_is_in_the_growing_and_in_the_finished_file(tmp_path):
    path = tmp_path / "a.mp4"
    workflow = {"nodes": [{"text": "größer = 'x'; \"y\"\n#"}] * 50}
    with VideoWriter(path, width=W, height=H, metadata={"workflow": workflow, "note": "plain"}) as writer:
        writer.write(block(0))
        with av.open(str(path)) as container:
            assert json.loads(container.metadata["workflow"]) == workflow
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["workflow"]) == workflow
        assert container.metadata["note"] == "plain"


def test_the_core_can_read_it_and_save_it_again(tmp_path):
    """What the core's VideoFromFile does: components by decoding, save_to by copying packets."""
    path = write(tmp_path / "a.mp4", audio=sound(24000, 10, clicks=(1.0,)), metadata={"prompt": {"1": 2}})
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        container.seek(0)
        packets = container.demux(container.streams.audio[0])
        heard = [frame for packet in packets for frame in packet.decode()]
    assert len(frames) == 4 * BLOCK
    # By its time: behind a seek, PyAV 19 leaves out the packet that it begins at.
    loudest = max(heard, key=lambda frame: np.abs(frame.to_ndarray()).max())
    assert abs(loudest.pts + int(np.abs(loudest.to_ndarray()[0]).argmax()) - 24000) < 48

    target = io.BytesIO()
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path)) as source, av.open(target, "w", format="mov", options=options) as out:
        out.metadata.update(source.metadata)
        streams = {
            stream: out.add_stream_from_template(template=stream, opaque=True) for stream in source.streams
        }
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                out.mux(packet)
    target.seek(0)
    with av.open(target) as container:
        assert json.loads(container.metadata["prompt"]) == {"1": 2}
        assert container.duration / av.time_base == pytest.approx(4 * BLOCK / 25)
        assert sum(1 for _ in container.decode(video=0)) == 4 * BLOCK


def test_fragments_name_the_type_a_browser_needs():
    encoder = FragmentEncoder(width=W, height=H, audio=sound(24000, 1))
    with pytest.raises(RuntimeError, match="first block"):
        encoder.mime_type  # noqa: B018
    first = encoder.encode(block(0))
    assert re.fullmatch(r'video/mp4; codecs="avc1\.[0-9a-f]{6}, mp4a\.40\.2"', encoder.mime_type)
    assert first[4:8] == b"ftyp"
    assert encoder.encode(block(1))[4:8] == b"moof"


def test_live_sound_comes_with_its_picture_and_stays_in_step():
    feed, click = SpeechFeed(24_000), 0.7
    said = sound(24_000, 4 * BLOCK / 25, clicks=(click,))["waveform"][0, 0]
    encoder, data = FragmentEncoder(width=W, height=H, audio=feed), b""
    for index in range(4):
        feed.write(said[feed_samples(index) : feed_samples(index + 1)], 24_000)
        feed.take(feed_samples(1))
        data += encoder.encode(block(index))
        with av.open(io.BytesIO(data)) as container:
            heard = list(container.decode(audio=0))
        missing = (index + 1) * BLOCK / 25 - sum(frame.samples for frame in heard) / heard[0].sample_rate
        assert missing < 0.07  # at 24 kHz twice as much would wait
    loud = np.abs(np.concatenate([frame.to_ndarray() for frame in heard], axis=1)[0])
    assert heard[0].sample_rate == 48_000
    assert loud.argmax() / 48_000 == pytest.approx(click, abs=0.002)


def feed_samples(blocks: int) -> int:
    return blocks * BLOCK * 24_000 // 25


def test_an_error_in_between_keeps_what_was_written(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, width=W, height=H) as writer:
        writer.write(block(0))
        raise KeyboardInterrupt
    assert len(pictures(path)) == BLOCK


def test_a_video_without_frames_leaves_no_file(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=W, height=H):
        pass
    assert not path.exists()


def test_a_closed_writer_takes_no_more(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", width=W, height=H) as writer:
        writer.write(block(0))
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(block(1))


@pytest.mark.parametrize(("width", "height"), [(63, 32), (64, 31), (0, 32)])
def test_odd_sizes_are_refused_before_a_file_is_made(tmp_path, width, height):
    with pytest.raises(ValueError, match=f"even sides, not {width}x{height}"):
        VideoWriter(tmp_path / "a.mp4", width=width, height=height)
    assert not list(tmp_path.iterdir())


def test_blocks_of_another_size_are_refused(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", width=W, height=H) as writer:
        with pytest.raises(ValueError, match=rf"uint8 \[frames, {H}, {W}, 3\]"):
            writer.write(torch.zeros(1, W, H, 3, dtype=torch.uint8))
        with pytest.raises(ValueError, match="float32"):
            writer.write(torch.zeros(1, H, W, 3))


def test_bad_sound_is_refused_before_a_file_is_made(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        VideoWriter(tmp_path / "a.mp4", width=W, height=H, audio=sound(24000, 0))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match=r"Cannot write the video .*nowhere.*No such file"):
        VideoWriter(tmp_path / "nowhere" / "a.mp4", width=W, height=H)


def test_only_ordinary_files_are_written(tmp_path):
    with pytest.raises(OSError, match="no ordinary file"):
        VideoWriter(tmp_path, width=W, height=H)


class FullDisk:
    """A file on a disk that is full after a number of bytes."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data) -> int:
        if self._room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(data[: self._room])
        self._room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def test_a_disk_that_fills_up_keeps_the_whole_blocks(tmp_path):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, width=W, height=H, audio=sound(24000, 10))
    writer.write(block(0))
    writer.write(block(1))
    writer._file = FullDisk(writer._file, 100)
    whole = path.stat().st_size
    with pytest.raises(OSError, match=r"No space left on device.*the first 1\.0 s \(24 frames\) are kept"):
        writer.write(block(2))
    writer.close()
    assert path.stat().st_size == whole
    assert len(pictures(path)) == 2 * BLOCK


def test_no_room_for_the_index_keeps_the_playable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, width=W, height=H)
    writer.write(block(0))

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"Cannot add a seek index .*No space left.*the first 0\.5 s"):
        writer.close()
    assert list(tmp_path.iterdir()) == [path]
    assert len(pictures(path)) == BLOCK


def lost(tmp_path, spoil) -> str:
    """A writer whose file is spoiled behind two blocks, and what it says at the next one."""
    writer = VideoWriter(tmp_path / "a.mp4", width=W, height=H, fingerprint="f")
    for index in range(2):
        writer.write(block(index))
    spoil(writer.path)
    with pytest.raises(OSError) as caught:
        writer.write(block(2))
    writer.close()
    return str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove an open file")
def test_a_file_that_is_deleted_while_it_grows_is_not_said_to_be_kept(tmp_path):
    said = lost(tmp_path, Path.unlink)
    assert re.fullmatch(
        r"Queue this again .*a\.mp4 was deleted while it was made; nothing of it is left\.", said
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove an open file")
def test_a_folder_that_is_deleted_is_told_too(tmp_path):
    (tmp_path / "videos").mkdir()
    said = lost(tmp_path / "videos", lambda path: shutil.rmtree(path.parent))
    assert "was deleted while it was made" in said and not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody rename an open file")
def test_a_file_that_is_renamed_while_it_grows_plays_where_it_is_now(tmp_path):
    said = lost(tmp_path, lambda path: path.rename(tmp_path / "b.mp4"))
    assert "was renamed or moved while it was made; the first 1.0 s (24 frames) are where it is now" in said
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
    assert len(pictures(tmp_path / "b.mp4")) == 2 * BLOCK


def test_a_file_that_another_program_cuts_is_not_gone_on_with(tmp_path):
    said = lost(tmp_path, lambda path: os.truncate(path, 1000))
    assert "was changed by another program while it was made" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove an open file")
def test_a_file_that_is_deleted_before_its_end_is_not_called_finished(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", width=W, height=H)
    writer.write(block(0))
    writer.path.unlink()
    with pytest.raises(OSError, match="was deleted while it was made; nothing of it is left"):
        writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove an open file")
def test_what_ends_a_run_is_told_even_if_its_file_is_gone(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", width=W, height=H) as writer:
        writer.write(block(0))
        writer.path.unlink()
        raise KeyboardInterrupt


def test_no_file_is_overwritten(tmp_path):
    path = write(tmp_path / "a.mp4", blocks=1)
    before = path.read_bytes()
    for options in ({}, {"fingerprint": "f"}):
        with pytest.raises(FileExistsError, match=r"Cannot write the video .*a\.mp4: File exists"):
            VideoWriter(path, width=W, height=H, **options)
    assert path.read_bytes() == before
