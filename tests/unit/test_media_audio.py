"""Operations on ComfyUI AUDIO and sample-rate conversion."""

from __future__ import annotations

import math
import wave

import av
import numpy as np
import pytest
import torch
from avatar.media.audio import (
    check_audio,
    decode_clip,
    duration,
    load_audio,
    map_audio,
    mix,
    mono_samples,
    pad,
    resample,
    to_mono,
    trim,
)

import tools.pack  # noqa: F401


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0, channels: int = 1) -> dict:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    wave_ = (0.5 * torch.sin(2 * math.pi * hertz * time)).float()
    return {"waveform": wave_.expand(1, channels, -1).clone(), "sample_rate": rate}


RATES = [8000, 16000, 22050, 24000, 32000, 44100, 44101, 48000, 96000, 192000]


@pytest.mark.parametrize("source", RATES)
def test_resampling_keeps_time_pitch_and_level(source):
    heard = to_mono(tone(source, seconds=0.5), 16000)
    expected = tone(16000, seconds=0.5)["waveform"][0, 0]
    assert heard.dtype == torch.float32
    assert len(heard) == len(expected)
    assert (heard - expected)[1000:-1000].abs().max() < 2e-4


@pytest.mark.parametrize("target", [22050, 44101, 48000, 96000])
def test_resampling_up(target):
    heard = resample(tone(16000)["waveform"][0], 16000, target)
    assert heard.shape == (1, target)
    assert (heard - tone(target)["waveform"][0])[..., 5000:-5000].abs().max() < 2e-4


@pytest.mark.parametrize("source", RATES)
def test_resampling_does_not_delay_a_click(source):
    click = torch.zeros(1, source)
    click[0, source // 2] = 1
    heard = resample(click, source, 16000)[0].double()
    centre = (heard * torch.arange(len(heard))).sum() / heard.sum()
    assert centre == pytest.approx(source // 2 * 16000 / source, abs=0.01)


def test_resampling_lets_nothing_alias():
    heard = to_mono(tone(48000, hertz=9000.0), 16000)
    assert heard[1000:-1000].abs().max() < 1e-3


@pytest.mark.parametrize(("hertz", "level"), [(300, 0.5), (3000, 0.5), (6000, 0.5), (7000, 0.48)])
def test_resampling_keeps_speech_frequencies(hertz, level):
    heard = to_mono(tone(48000, hertz=hertz), 16000)
    assert heard[1000:-1000].abs().max() == pytest.approx(level, abs=0.005)


def test_resampling_keeps_a_constant_level():
    heard = resample(torch.ones(1, 44100), 44100, 16000)
    assert (heard[:, 500:-500] - 1).abs().max() < 1e-5


def test_chunks_leave_no_seams(monkeypatch):
    noise = torch.randn(1, 30011)
    whole = resample(noise, 48000, 16000)
    monkeypatch.setattr("avatar.media.audio.RESAMPLED_AT_ONCE", 997)
    assert torch.equal(resample(noise, 48000, 16000), whole)


@pytest.mark.parametrize("channels", [2, 6, 11])
def test_channels_are_resampled_each_for_itself(channels):
    noise = torch.randn(channels, 2000)
    heard = resample(noise, 44101, 16000)
    assert heard.shape == (channels, 726)
    assert torch.equal(heard[-1:], resample(noise[-1:], 44101, 16000))


@pytest.mark.parametrize("samples", [1, 2, 5, 160, 12345])
@pytest.mark.parametrize(
    ("source", "target"), [(44100, 16000), (16000, 44101), (8000, 16000), (96000, 16000)]
)
def test_the_length_is_rounded_up_to_whole_samples(samples, source, target):
    heard = resample(torch.full((1, samples), 0.5), source, target)
    assert heard.shape == (1, math.ceil(samples * target / source))
    assert torch.isfinite(heard).all() and (heard != 0).all()


def test_channels_are_averaged():
    audio = {"waveform": torch.tensor([[[1.0, 0.0], [0.0, 0.5]]]), "sample_rate": 16000}
    assert to_mono(audio).tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (None, "not AUDIO"),
        ({"waveform": torch.zeros(1, 1, 8)}, "not AUDIO"),
        ({"waveform": torch.zeros(1, 8), "sample_rate": 16000}, r"\[batch, channels, samples\]"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(1, 0, 8), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(2, 1, 8), "sample_rate": 16000}, "batch of 2"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": 0}, "above 0, not 0"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": 0.5}, "whole number"),
        ({"waveform": torch.full((1, 1, 8), math.nan), "sample_rate": 16000}, "NaN"),
        ({"waveform": torch.full((1, 1, 8), math.inf), "sample_rate": 16000}, "infinite"),
        ({"waveform": torch.zeros(1, 1, 8, dtype=torch.int16), "sample_rate": 16000}, "int16"),
    ],
)
def test_unusable_audio_is_refused_in_one_sentence(audio, said):
    for operation in (check_audio, to_mono, pad, trim, lambda audio: mix([audio])):
        with pytest.raises(ValueError, match=said) as raised:
            operation(audio)
        assert str(raised.value).count(". ") == 0


def test_silence_and_a_tenth_of_a_second_are_fine():
    check_audio({"waveform": torch.zeros(1, 2, 2205), "sample_rate": 22050})


def test_a_lazy_mapping_is_audio():
    from collections import UserDict

    assert len(to_mono(UserDict(tone(16000)))) == 16000


def test_pad_and_trim_move_the_sound_by_whole_samples():
    audio = tone(24000, channels=2)
    padded = pad(audio, before_seconds=0.12, after_seconds=0.5)
    assert duration(padded) == pytest.approx(1.62)
    assert padded["waveform"][..., :2880].abs().max() == 0
    assert torch.equal(trim(padded, 0.12, 1.0)["waveform"], audio["waveform"])
    assert duration(trim(audio, 0.25)) == pytest.approx(0.75)
    assert duration(trim(audio, 0.5, 9.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("start", "seconds"), [(1.0, None), (2.0, 1.0), (-0.5, 1.0), (0.0, 0.0), (0.5, -0.1)]
)
def test_trimming_to_nothing_is_refused(start, seconds):
    with pytest.raises(ValueError, match=r"audio that is 1\.00 s long"):
        trim(tone(16000), start, seconds)


def test_padding_by_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="0 seconds or more"):
        pad(tone(16000), -1.0)


def test_mix_takes_the_highest_rate_the_longest_length_and_the_most_channels():
    mixed = mix([tone(16000, 0.5), tone(48000, 1.0, hertz=880, channels=2)])
    assert mixed["sample_rate"] == 48000 and mixed["waveform"].shape == (1, 2, 48000)
    second = tone(48000, 1.0, hertz=880, channels=2)["waveform"]
    first = tone(48000, 0.5)["waveform"]
    assert (mixed["waveform"][..., :24000] - second[..., :24000] - first)[..., 3000:-3000].abs().max() < 1e-3
    assert torch.equal(mixed["waveform"][..., 24000:], second[..., 24000:])


def test_mix_never_exceeds_full_scale():
    loud = {"waveform": torch.full((1, 1, 100), 0.9), "sample_rate": 16000}
    assert mix([loud, loud])["waveform"].max() == 1
    assert mix([loud])["waveform"].max() == pytest.approx(0.9)


def test_mixing_nothing_is_refused():
    with pytest.raises(ValueError, match="no audio to mix"):
        mix([])


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "tolerance"),
    [
        ("a.wav", "pcm_s16le", 22050, 1, 1e-4),
        ("a.wav", "pcm_s24le", 48000, 2, 1e-4),
        ("a.wav", "pcm_f32le", 24000, 1, 0),
        ("a.flac", "flac", 44100, 2, 1e-4),
        ("a.mp3", "libmp3lame", 32000, 1, 0.05),
    ],
)
def test_files_are_read_at_their_own_rate_and_channels(tmp_path, name, codec, rate, channels, tolerance):
    audio = tone(rate, channels=channels)
    layout = "mono" if channels == 1 else "stereo"
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(audio["waveform"][0].numpy(), format="fltp", layout=layout)
        frame.sample_rate = rate
        convert = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for part in convert.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size, partial=True)) is not None:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    read = load_audio(tmp_path / name)
    check_audio(read)
    assert read["sample_rate"] == rate and read["waveform"].shape[:2] == (1, channels)
    length = min(rate, read["waveform"].shape[-1])
    assert length >= 0.99 * rate
    assert (read["waveform"] - audio["waveform"])[..., 2000 : length - 2000].abs().max() <= tolerance


def test_missing_unreadable_and_silent_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file .*missing\.wav"):
        load_audio(tmp_path / "missing.wav")
    (tmp_path / "text.wav").write_text("this is no sound")
    with pytest.raises(ValueError, match=r"text\.wav cannot be read as audio"):
        load_audio(tmp_path / "text.wav")
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"")
    with pytest.raises(ValueError, match="no audio samples"):
        load_audio(tmp_path / "empty.wav")
    with av.open(str(tmp_path / "picture.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
        )
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="holds no audio"):
        load_audio(tmp_path / "picture.mp4")


def write(path, seconds: float = 3.0, rate: int = 24000, channels: int = 2):
    """A 16-bit WAV file of noise."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        noise = np.random.default_rng(0).integers(-9999, 9999, (round(seconds * rate), channels))
        file.writeframes(noise.astype("<i2").tobytes())
    return path


def test_a_mapped_file_is_the_same_audio_and_leaves_nothing_behind(tmp_path):
    path = write(tmp_path / "a.wav")
    (folder := tmp_path / "temp").mkdir()
    mapped, loaded = map_audio(path, folder), load_audio(path)
    check_audio(mapped)
    assert torch.equal(mapped["waveform"], loaded["waveform"])
    assert mapped["sample_rate"] == 24000 and mapped["waveform"].shape == (1, 2, 72_000)
    assert torch.equal(to_mono(trim(mapped, 1, 0.5)), to_mono(trim(loaded, 1, 0.5)))
    assert list(folder.iterdir()) == []


def test_mapping_stops_when_asked(tmp_path):
    def check():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        map_audio(write(tmp_path / "a.wav"), tmp_path, check)


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("avatar.media.audio.tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(OSError, match=r"a\.wav does not fit decoded into .*make room"):
        map_audio(write(tmp_path / "a.wav"), tmp_path)


@pytest.mark.parametrize(
    ("format_", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("mp3", "libmp3lame"),
        ("mp4", "aac"),
        ("adts", "aac"),
    ],
)
def test_sound_files_in_memory_are_known_by_their_first_bytes(tmp_path, format_, codec):
    path = tmp_path / "sound"
    with av.open(str(path), "w", format=format_) as out:
        stream = out.add_stream(codec, rate=24_000, layout="stereo")
        sound = tone(24_000, channels=2)["waveform"][0].numpy()
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
        frame.sample_rate = 24_000
        size = stream.codec_context.frame_size or 1024
        convert = av.AudioResampler(stream.codec_context.format, "stereo", 24_000, size)
        for part in [*convert.resample(frame), *convert.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    mono, rate = decode_clip(path.read_bytes(), 5)
    assert 0.99 < len(mono) / rate < 1.15 and mono.abs().max() > 0.4


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no WAV, FLAC"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "no WAV, FLAC"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "no WAV, FLAC"),
        (b"RIFF and nothing else", "cannot be read as audio"),
    ],
)
def test_other_bytes_are_refused(data, said):
    with pytest.raises(ValueError, match=said):
        decode_clip(data, 5)


def test_a_clip_that_is_too_long_is_refused(tmp_path):
    data = write(tmp_path / "a.wav").read_bytes()
    assert decode_clip(data, 3)[1] == 24_000
    with pytest.raises(ValueError, match=r"longer than 2\.5 s"):
        decode_clip(data, 2.5)


def test_plain_samples_are_averaged_over_their_channels():
    stored = np.array([0.5, -0.25, 0.25, 0.75], "<f4")
    assert mono_samples(stored.tobytes(), "f32", 2).tolist() == [0.125, 0.5]
    assert mono_samples((stored * 32768).astype("<i2").tobytes(), "s16", 1).tolist() == stored.tolist()
    with pytest.raises(ValueError, match="3 bytes are no whole number of s16 samples in 1 channel"):
        mono_samples(b"abc", "s16", 1)
    with pytest.raises(ValueError, match="NaN"):
        mono_samples(np.array([math.inf], "<f4").tobytes(), "f32", 1)
