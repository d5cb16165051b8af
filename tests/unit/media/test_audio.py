"""Operations on ComfyUI AUDIO and sample-rate conversion."""

from __future__ import annotations

import math
import wave

import av
import numpy as np
import pytest
import torch
from avatar.media.audio import (
    decode_clip,
    duration,
    mix,
    mono_samples,
    pad,
    resample,
    to_mono,
    trim,
    usable,
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
        (None, "connect Load Audio instead: this video has no sound"),
        ({"waveform": None, "sample_rate": 16000}, r"\[batch, channels, samples\]"),
        ({"waveform": torch.zeros(1, 1, 8)}, "not AUDIO"),
        ({"waveform": torch.zeros(1, 8), "sample_rate": 16000}, r"\[batch, channels, samples\]"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(1, 0, 8), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(2, 1, 8), "sample_rate": 16000}, "batch of 2"),
        (
            {"waveform": torch.zeros(1, 1, 8), "sample_rate": 0},
            "Resample .* of 1000 to 1000000 Hz: its rate is 0",
        ),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": 10**9}, "its rate is 1000000000"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": "much"}, "its rate is 'much'"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": None}, "whole number"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": math.nan}, "whole number"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": math.inf}, "whole number"),
        ({"waveform": torch.zeros(1, 1, 8), "sample_rate": 0.5}, "whole number"),
        ({"waveform": torch.full((1, 1, 8), math.nan), "sample_rate": 16000}, "NaN"),
        ({"waveform": torch.full((1, 1, 8), math.inf), "sample_rate": 16000}, "infinite"),
        ({"waveform": torch.zeros(1, 1, 8, dtype=torch.bool), "sample_rate": 16000}, "bool"),
        ({"waveform": torch.zeros(1, 1, 8, dtype=torch.cfloat), "sample_rate": 16000}, "complex"),
    ],
)
def test_unusable_audio_is_refused_in_one_sentence(audio, said):
    for operation in (usable, to_mono, pad, trim, lambda audio: mix([audio])):
        with pytest.raises(ValueError, match=said) as raised:
            operation(audio)
        assert str(raised.value).count(". ") == 0


def test_silence_and_a_tenth_of_a_second_are_fine():
    usable({"waveform": torch.zeros(1, 2, 2205), "sample_rate": 22050})


@pytest.mark.parametrize("rate", [np.int64(44100), np.float32(44100), 44100.0, torch.tensor(44100)])
def test_a_rate_of_any_numeric_type_becomes_an_int(rate):
    rate = usable({"waveform": torch.zeros(1, 1, 8), "sample_rate": rate})["sample_rate"]
    assert type(rate) is int and rate == 44100


def test_further_keys_of_other_packs_are_left_behind():
    audio = {**tone(16000), "path": object(), "raw": b"...", "tags": {"a"}}
    assert set(usable(audio)) == {"waveform", "sample_rate"}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_become_floats_between_minus_one_and_one(dtype):
    limits = torch.iinfo(dtype)
    middle = (limits.max + limits.min + 1) // 2
    stored = [limits.min, middle, middle + (limits.max - middle + 1) // 2]
    waveform = torch.tensor(stored, dtype=dtype)[None, None]
    assert usable({"waveform": waveform, "sample_rate": 16000})["waveform"].tolist() == [[[-1, 0, 0.5]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype):
    waveform = torch.tensor([[[0.5, -0.25]]], dtype=dtype, requires_grad=True)
    found = usable({"waveform": waveform, "sample_rate": 16000})["waveform"]
    assert (found.dtype, found.requires_grad, found.tolist()) == (torch.float32, False, [[[0.5, -0.25]]])


def test_each_channel_of_a_strided_waveform_becomes_contiguous_and_others_are_not_copied():
    interleaved = torch.rand(1, 100, 2).transpose(1, 2)
    found = usable({"waveform": interleaved, "sample_rate": 16000})["waveform"]
    assert found[0, 1].is_contiguous() and torch.equal(found, interleaved)
    plain = torch.rand(1, 2, 100)
    assert usable({"waveform": plain, "sample_rate": 16000})["waveform"] is plain
    part = usable({"waveform": plain[..., 10:20], "sample_rate": 16000})["waveform"]
    assert part.data_ptr() == plain[..., 10:].data_ptr()


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


def write(path, seconds: float = 3.0, rate: int = 24000, channels: int = 2):
    """A 16-bit WAV file of noise."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        noise = np.random.default_rng(0).integers(-9999, 9999, (round(seconds * rate), channels))
        file.writeframes(noise.astype("<i2").tobytes())
    return path


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
