"""Sound files that are still being written."""

from __future__ import annotations

import struct
import wave

import pytest
import torch
from avatar.media.growing_file import GrowingFile
from avatar.media.speech_feed import SpeechFeed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def header(
    rate: int = 8000, channels: int = 1, tag: int = 1, bits: int = 16, length: int = 0xFFFFFFFF
) -> bytes:
    frame = channels * bits // 8
    kind = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    return (
        b"RIFF\xff\xff\xff\xffWAVEfmt "
        + struct.pack("<I", len(kind))
        + kind
        + b"data"
        + struct.pack("<I", length)
    )


def ramp(first: int, count: int) -> bytes:
    return struct.pack(f"<{count}h", *range(first, first + count))


def append(path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def heard(feed: SpeechFeed) -> list[int]:
    """All that waits, as 16-bit values."""
    return (feed.peek(1 << 20) * 32768).round().int().tolist()


def opened(path, **options):
    clock = Clock()
    return GrowingFile(path, 8000, clock=clock, **options), SpeechFeed(8000), clock


def test_a_wav_file_is_read_as_it_grows_and_ends_when_its_header_is_completed(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(header() + ramp(0, 10))
    file, feed, _ = opened(path)
    file.poll(feed)
    append(path, ramp(10, 5) + b"\x0f")  # a sample in two parts
    file.poll(feed)
    assert heard(feed) == list(range(15))
    append(path, b"\x00" + b"LIST, which is no sound")
    file.poll(feed)
    with path.open("r+b") as whole:
        whole.seek(40)
        whole.write(struct.pack("<I", 32))
    assert not feed.ended
    file.poll(feed)
    file.poll(feed)
    assert feed.ended


def test_a_length_that_is_there_from_the_start_is_kept_to(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(header(length=20) + ramp(0, 4))
    file, feed, _ = opened(path)
    file.poll(feed)
    append(path, ramp(4, 6) + b"LIST")
    file.poll(feed)
    assert heard(feed) == list(range(10)) and not feed.ended
    file.poll(feed)
    assert feed.ended


def test_a_file_by_pythons_wave_module_goes_on_until_it_rests(tmp_path):
    path = tmp_path / "a.wav"
    writer = wave.open(str(path), "wb")  # noqa: SIM115
    writer.setparams((1, 2, 8000, 0, "NONE", ""))
    writer.writeframes(ramp(0, 10))
    writer._file.flush()
    file, feed, clock = opened(path, idle_seconds=3)
    file.poll(feed)
    clock.now = 2
    file.poll(feed)
    writer.writeframes(ramp(10, 10))
    writer.close()
    file.poll(feed)
    clock.now = 4.9
    file.poll(feed)
    assert heard(feed) == list(range(20)) and not feed.ended
    clock.now = 5
    file.poll(feed)
    assert feed.ended


def test_a_video_that_ends_before_the_file_leaves_the_rest_of_it(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(header() + ramp(0, 10))
    file, feed, _ = opened(path)
    file.poll(feed)
    append(path, ramp(10, 5))
    feed.finish()
    file.poll(feed)
    assert heard(feed) == []


def test_an_end_mark_ends_it_after_its_last_sample(tmp_path):
    path = tmp_path / "a.pcm"
    path.write_bytes(ramp(0, 3))
    file, feed, clock = opened(path, idle_seconds=0)
    clock.now = 1e6
    file.poll(feed)
    file.poll(feed)
    assert not feed.ended
    append(path, ramp(3, 3))
    (tmp_path / "a.pcm.end").touch()
    file.poll(feed)
    file.poll(feed)
    assert heard(feed) == list(range(6)) and feed.ended


def test_no_more_is_read_than_there_is_room_for(tmp_path):
    path = tmp_path / "a.pcm"
    path.write_bytes(ramp(0, 30_000))
    file, _, clock = opened(path)
    feed = SpeechFeed(8000, limit_seconds=1)
    file.poll(feed)
    clock.now = 99
    file.poll(feed)  # full, not resting
    assert feed.waiting_seconds == 1 and not feed.ended
    feed.take(8000)
    file.poll(feed)
    assert heard(feed) == list(range(8000, 16_000))


@pytest.mark.parametrize(
    ("tag", "bits", "stored"),
    [
        (1, 16, struct.pack("<4h", 8192, 16384, -8192, -16384)),
        (1, 24, b"\x00\x00\x20\x00\x00\x40\x00\x00\xe0\x00\x00\xc0"),
        (1, 32, struct.pack("<4i", 1 << 29, 1 << 30, -(1 << 29), -(1 << 30))),
        (3, 32, struct.pack("<4f", 0.25, 0.5, -0.25, -0.5)),
    ],
)
def test_usual_kinds_of_samples_are_read_and_channels_averaged(tmp_path, tag, bits, stored):
    path = tmp_path / "a.wav"
    path.write_bytes(header(44_100, 2, tag, bits) + stored)
    file = GrowingFile(path, 8000)
    feed = SpeechFeed(44_100)
    file.poll(feed)
    assert file.rate == 44_100
    torch.testing.assert_close(feed.peek(9), torch.tensor([0.375, -0.375]))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sound file .*a\.wav"):
        GrowingFile(tmp_path / "a.wav", 8000)
    (tmp_path / "a.wav").write_bytes(header()[:30])
    with pytest.raises(ValueError, match="no whole WAV header"):
        GrowingFile(tmp_path / "a.wav", 8000)
    (tmp_path / "b.wav").write_bytes(header(tag=6, bits=8))
    with pytest.raises(ValueError, match=r"b\.wav has sound of a kind"):
        GrowingFile(tmp_path / "b.wav", 8000)
    (tmp_path / "c.f32").write_bytes(struct.pack("<f", float("nan")))
    with pytest.raises(ValueError, match=r"c\.f32: The sound holds NaN"):
        GrowingFile(tmp_path / "c.f32", 8000).poll(SpeechFeed(8000))
