"""Sound files of every format, and what of them lies on the disk."""

from __future__ import annotations

import errno
import io
import math
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from avatar.media.audio import decode_clip, to_mono, trim
from avatar.media.mapped_sound import map_audio
from avatar.media.sound_file import NoSound

import tools.pack  # noqa: F401

PLAIN_HEADER = 44  # bytes


def tone(rate: int, seconds: float, channels: int) -> np.ndarray:
    """A 440 Hz tone as float32 [channels, S], of which channel n has a level of 0.6 / (n + 1)."""
    wave_ = np.sin(2 * math.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return (0.6 * wave_ / np.arange(1, channels + 1)[:, None]).astype(np.float32)


def encode(
    path,
    codec: str,
    sound: np.ndarray,
    rate: int,
    layout: str,
    format_: str | None = None,
    container: str | None = None,
    **options: str,
) -> None:
    """Write float32 [channels, S] with one of FFmpeg's encoders. Frames are packed: PyAV makes no planar ones of 8
    channels."""
    with av.open(path if isinstance(path, io.BytesIO) else str(path), "w", container, options) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if format_:
            stream.codec_context.format = format_
        packed = np.ascontiguousarray(sound.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or 1024
        convert = av.AudioResampler(stream.codec_context.format, layout, rate, size)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))


def write_wav(path, samples: np.ndarray, rate: int = 24_000):
    """A 16-bit WAV of integers [S, channels], of any number of channels."""
    channels = samples.shape[1]
    data = samples.astype("<i2").tobytes()
    kind = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    header = b"WAVEfmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", len(data))
    path.write_bytes(b"RIFF" + struct.pack("<I", len(header) + len(data)) + header + data)
    return path


def noise(channels: int, samples: int = 7200) -> np.ndarray:
    return np.random.default_rng(0).integers(-9999, 9999, (samples, channels))


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "format_", "tolerance"),
    [
        ("a.wav", "pcm_s16le", 22050, "mono", None, 1e-4),
        ("a.wav", "pcm_s24le", 48000, "stereo", None, 1e-4),
        ("a.wav", "pcm_f32le", 24000, "mono", None, 0),
        ("a.wav", "pcm_f64le", 24000, "stereo", None, 0),
        ("a.wav", "pcm_u8", 24000, "stereo", None, 0.01),
        ("a.flac", "flac", 44100, "stereo", "s16", 1e-4),
        ("a.flac", "flac", 44100, "7.1", "s32", 1e-4),
        ("a.mp3", "libmp3lame", 32000, "mono", None, 0.05),
        ("a.m4a", "aac", 48000, "7.1", None, 0.05),
        ("a.m4a", "alac", 48000, "7.1(wide)", "s32p", 1e-4),
        ("a.wv", "wavpack", 44100, "stereo", "u8p", 0.01),
        ("a.wv", "wavpack", 44100, "5.1", "s16p", 1e-4),
        ("a.wv", "wavpack", 44100, "7.1", "s32p", 1e-4),
        ("a.wv", "wavpack", 44100, "7.1", "fltp", 0),
        ("a.wv", "wavpack", 44100, "hexadecagonal", "s16p", 1e-4),
        ("a.mka", "pcm_s16le", 24000, "22.2", None, 1e-4),
    ],
)
def test_files_are_read_at_their_own_rate_and_channels(
    tmp_path, name, codec, rate, layout, format_, tolerance
):
    channels = av.AudioLayout(layout).nb_channels
    sound = torch.from_numpy(tone(rate, 1.0, channels))
    encode(tmp_path / name, codec, sound.numpy(), rate, layout, format_)
    read = map_audio(tmp_path / name, tmp_path)
    assert read["sample_rate"] == rate and read["waveform"].shape[:2] == (1, channels)
    length = min(rate, read["waveform"].shape[-1])
    assert length >= 0.99 * rate
    found, whole = read["waveform"][0, :, 2000 : length - 2000], sound[:, 2000 : length - 2000]
    if "7.1" not in layout or codec != "aac":  # its last channel keeps little of the tone
        assert (found - whole).abs().max() <= tolerance
    assert (found.mean(0) - whole.mean(0)).abs().max() <= max(tolerance, 1e-3)


@pytest.mark.parametrize("channels", [1, 3, 7, 8, 9, 16, 33, 64])
def test_any_number_of_channels_without_names_is_read_and_averaged(tmp_path, channels):
    samples = noise(channels)
    path = write_wav(tmp_path / "a.wav", samples)
    read = map_audio(path, tmp_path)
    expected = torch.from_numpy(samples.T / 32768).float()
    assert torch.equal(read["waveform"][0], expected)
    mono, rate = decode_clip(path.read_bytes(), 5)
    assert rate == 24_000
    torch.testing.assert_close(mono, expected.mean(0))


@pytest.mark.parametrize("mask", [0x3, 0x60F, 0x3F00, 0x80000001])
def test_speakers_in_unusual_places_are_read(tmp_path, mask):
    channels = mask.bit_count()
    samples = noise(channels)
    data = samples.astype("<i2").tobytes()
    kind = struct.pack(
        "<HHIIHHHHI", 0xFFFE, channels, 24_000, 48_000 * channels, 2 * channels, 16, 22, 16, mask
    )
    kind += b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    body = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind + b"data" + struct.pack("<I", len(data)) + data
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    read = map_audio(tmp_path / "a.wav", tmp_path)
    assert torch.equal(read["waveform"][0], torch.from_numpy(samples.T / 32768).float())


def test_more_channels_than_can_be_converted_are_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", noise(65))
    with pytest.raises(ValueError, match=r"Mix .*a\.wav down to 64 channels or fewer: it has 65\."):
        map_audio(path, tmp_path)


@pytest.mark.parametrize("rate", [1, 2_000_000])
def test_a_rate_that_is_not_that_of_a_sound_is_refused(tmp_path, rate):
    data = bytearray(write_wav(tmp_path / "a.wav", noise(1)).read_bytes())
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(ValueError, match=r"Convert .*a\.wav to 48000 Hz"):
        map_audio(tmp_path / "a.wav", tmp_path)
    with pytest.raises(ValueError, match="Convert this clip to 48000 Hz"):
        decode_clip(bytes(data), 300)


def test_what_no_one_hears_of_a_clip_takes_no_memory():
    """A few kilobytes that hold 20 s at the highest rate of FLAC."""
    rate, seconds = 655_350, 20
    data = io.BytesIO()
    encode(data, "flac", tone(rate, seconds, 2), rate, "stereo", "s16", "flac")
    mono, found = decode_clip(data.getvalue(), 300)
    assert found == 48_000 and abs(len(mono) - seconds * found) <= 1
    expected = torch.from_numpy(tone(found, seconds, 2).mean(0))[: len(mono)]
    assert (mono - expected)[1000:-1000].abs().max() < 1e-3
    with pytest.raises(ValueError, match="longer than 19 s"):
        decode_clip(data.getvalue(), 19)


def test_a_file_is_kept_at_no_more_than_192_khz(tmp_path):
    encode(tmp_path / "a.flac", "flac", tone(655_350, 0.5, 2), 655_350, "stereo", "s16")
    read = map_audio(tmp_path / "a.flac", tmp_path)
    assert read["sample_rate"] == 192_000 and abs(read["waveform"].shape[-1] - 96_000) <= 1
    expected = torch.from_numpy(tone(192_000, 0.5, 2))[:, : read["waveform"].shape[-1]]
    assert (read["waveform"][0] - expected)[:, 4000:-4000].abs().max() < 1e-3


def test_a_file_that_changes_its_channels_keeps_those_it_begins_with(tmp_path):
    parts = []
    rate = 44_100
    for channels, layout in ((2, "stereo"), (1, "mono")):
        data = io.BytesIO()
        bare = {"write_xing": "0", "id3v2_version": "0"}
        encode(data, "libmp3lame", tone(rate, 1.0, channels), rate, layout, container="mp3", **bare)
        parts.append(data.getvalue())
    (tmp_path / "a.mp3").write_bytes(b"".join(parts))
    read = map_audio(tmp_path / "a.mp3", tmp_path)
    assert read["sample_rate"] == 44_100 and read["waveform"].shape[1] == 2
    assert read["waveform"].shape[-1] / 44_100 == pytest.approx(2, abs=0.15)


def test_missing_unreadable_and_silent_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file .*missing\.wav"):
        map_audio(tmp_path / "missing.wav", tmp_path)
    (tmp_path / "text.wav").write_text("this is no sound")
    with pytest.raises(ValueError, match=r"text\.wav cannot be read as audio"):
        map_audio(tmp_path / "text.wav", tmp_path)
    write_wav(tmp_path / "empty.wav", noise(1, 0))
    with pytest.raises(NoSound, match=r"empty\.wav has no sound"):
        map_audio(tmp_path / "empty.wav", tmp_path)
    with pytest.raises(NoSound, match="Send a sound with samples"):
        decode_clip((tmp_path / "empty.wav").read_bytes(), 5)
    with av.open(str(tmp_path / "picture.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
        )
        container.mux(stream.encode(None))
    with pytest.raises(NoSound, match=r"Choose a file or video with sound: .*picture\.mp4 has no sound"):
        map_audio(tmp_path / "picture.mp4", tmp_path)


def test_sound_of_an_unknown_kind_is_named_and_passed_over_where_there_is_another(tmp_path):
    sound, rate = tone(24_000, 0.3, 1), 24_000
    encode(tmp_path / "a.mka", "flac", sound, rate, "mono", "s16")
    data = (tmp_path / "a.mka").read_bytes()
    (tmp_path / "a.mka").write_bytes(data.replace(b"A_FLAC", b"A_NONE"))
    with pytest.raises(ValueError, match=r"Convert .*a\.mka to another format"):
        map_audio(tmp_path / "a.mka", tmp_path)
    with av.open(str(tmp_path / "b.mka"), "w") as out:
        streams = [out.add_stream(codec, rate=rate, layout="mono") for codec in ("flac", "pcm_s16le")]
        for stream in streams:
            packed = (sound * 32767).astype("<i2")
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    data = (tmp_path / "b.mka").read_bytes()
    (tmp_path / "b.mka").write_bytes(data.replace(b"A_FLAC", b"A_NONE"))
    assert map_audio(tmp_path / "b.mka", tmp_path)["waveform"].shape == (1, 1, 7200)


def test_a_mapped_file_leaves_nothing_behind(tmp_path):
    samples = noise(2, 72_000)
    path = write_wav(tmp_path / "a.wav", samples)
    (folder := tmp_path / "temp").mkdir()
    mapped = map_audio(path, folder)
    loaded = {"waveform": torch.from_numpy(samples.T / 32768).float()[None], "sample_rate": 24_000}
    assert torch.equal(mapped["waveform"], loaded["waveform"])
    assert mapped["sample_rate"] == 24000 and mapped["waveform"].shape == (1, 2, 72_000)
    assert torch.equal(to_mono(trim(mapped, 1, 0.5)), to_mono(trim(loaded, 1, 0.5)))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_mapped_file_is_contiguous_as_a_loaded_one_is(tmp_path, channels):
    waveform = map_audio(write_wav(tmp_path / "a.wav", noise(channels)), tmp_path)["waveform"]
    assert waveform.is_contiguous()
    # What the host's Split Audio Channels and savers make of it.
    for channel in range(channels):
        one = waveform[..., channel : channel + 1, :][0].movedim(0, 1).reshape(1, -1).numpy()
        av.AudioFrame.from_ndarray(one, format="flt", layout="mono")


def test_mapping_stops_when_asked(tmp_path):
    def check():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        map_audio(write_wav(tmp_path / "a.wav", noise(1)), tmp_path, check)


def test_a_disk_that_is_too_small_is_named_before_anything_is_decoded(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", noise(2, 72_000))
    room = 72_000 * 2 * 4
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": room}))
    map_audio(path, tmp_path)
    room -= 1

    def check():
        pytest.fail("it was decoded")

    with pytest.raises(OSError, match=r"Make room in .* or cut the file: .*a\.wav does not fit"):
        map_audio(path, tmp_path, check)


def test_a_disk_that_becomes_full_is_named_with_the_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(OSError, match=r"Make room in .* or cut the file: .*a\.wav does not fit"):
        map_audio(write_wav(tmp_path / "a.wav", noise(1)), tmp_path)


def timed(path, pieces: list[tuple[float, np.ndarray]], rate: int = 8000):
    """A Matroska file with pieces of mono sound (16 bits) that begin at given seconds."""
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        for begin, sound in pieces:
            frame = av.AudioFrame.from_ndarray((sound * 32767).astype("<i2")[None], "s16", "mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(begin * rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def loud(audio: dict) -> list[tuple[float, float]]:
    """When sound begins and ends, in seconds rounded to hundredths."""
    there = torch.nn.functional.pad((audio["waveform"][0, 0].abs() > 0.01).int(), (1, 1)).diff()
    starts, stops = (there == 1).nonzero()[:, 0], (there == -1).nonzero()[:, 0]
    return [
        (round(start.item() / audio["sample_rate"], 2), round(stop.item() / audio["sample_rate"], 2))
        for start, stop in zip(starts, stops, strict=True)
    ]


ONE = np.full(4000, 0.5)  # half a second


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (None, [(0, 1)]),
        (0.0, [(0.3, 0.8), (1.3, 1.8)]),
        (0.28, [(0.02, 0.52), (1.02, 1.52)]),
        (0.3, [(0, 0.5), (1, 1.5)]),
        (0.33, [(0, 0.47), (0.97, 1.47)]),
        (0.5, [(0, 0.3), (0.8, 1.3)]),
        (1.0, [(0.3, 0.8)]),
        (1.5, [(0, 0.3)]),
    ],
)
def test_sound_stays_where_its_time_is(tmp_path, begin, expected):
    path = timed(tmp_path / "a.mkv", [(0.3, ONE), (1.3, ONE)])
    assert loud(map_audio(path, tmp_path, begin=begin)) == expected


def test_coarse_time_stamps_are_no_gaps(tmp_path):
    pieces = [(n / 2 + (0.02 if n % 2 else 0), ONE) for n in range(6)]
    path = timed(tmp_path / "a.mkv", pieces)
    assert loud(map_audio(path, tmp_path, begin=0.0)) == [(0, 3)]


def test_sound_that_ends_before_it_begins_to_count_is_none(tmp_path):
    path = timed(tmp_path / "a.mkv", [(0.0, ONE)])
    with pytest.raises(NoSound):
        map_audio(path, tmp_path, begin=1.0)


def test_silence_before_far_away_sound_needs_room_too(tmp_path, monkeypatch):
    path = timed(tmp_path / "a.mkv", [(3600.0, ONE)])
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": 3600 * 8000 * 4 - 1}))
    with pytest.raises(OSError, match="Make room"):
        map_audio(path, tmp_path, begin=0.0)
