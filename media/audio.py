"""Operations on ComfyUI AUDIO: ``{"waveform": float [1, C, S], "sample_rate": int}``."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import av
import numpy as np
import torch
import torch.nn.functional as F

RESAMPLED_AT_ONCE = 1 << 16  # samples
LOOKED_AT_AT_ONCE = 1 << 20
CLIPS = [
    (b"RIFF", 0, "wav"),
    (b"fLaC", 0, "flac"),
    (b"OggS", 0, "ogg"),
    (b"ID3", 0, "mp3"),
    (b"\xff\xfb", 0, "mp3"),
    (b"\xff\xf3", 0, "mp3"),
    (b"\xff\xf2", 0, "mp3"),
    (b"\xff\xf1", 0, "aac"),
    (b"\xff\xf9", 0, "aac"),
    (b"ftyp", 4, "mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "matroska"),
]
"""How sound files begin: bytes, where they are, and FFmpeg's name of the format."""


def check_audio(audio: Mapping) -> None:
    """Raise ValueError, in one sentence, unless this is one usable sound: a batch of 1 with at least one
    sample, all finite. Silence and very short sounds are fine."""
    if not isinstance(audio, Mapping) or "waveform" not in audio or "sample_rate" not in audio:
        raise ValueError("This is not AUDIO: a dictionary with 'waveform' and 'sample_rate' is needed.")
    waveform, rate = audio["waveform"], audio["sample_rate"]
    if not isinstance(waveform, torch.Tensor) or waveform.ndim != 3:
        raise ValueError("The audio's waveform must be a tensor [batch, channels, samples].")
    if rate != int(rate) or rate <= 0:
        raise ValueError(f"The audio's sample rate must be a whole number above 0, not {rate}.")
    batch, channels, samples = waveform.shape
    if batch == 0 or channels == 0 or samples == 0:
        raise ValueError("The audio is empty: it has no samples.")
    if batch > 1:
        raise ValueError(f"The audio is a batch of {batch} sounds: pick one, or mix them into one.")
    if not waveform.is_floating_point():
        raise ValueError(f"The audio's waveform must hold floats between -1 and 1, not {waveform.dtype}.")
    if not all(torch.isfinite(part).all() for part in waveform.split(LOOKED_AT_AT_ONCE, dim=-1)):
        raise ValueError("The audio holds NaN or infinite samples: load or generate it again.")


def duration(audio: Mapping) -> float:
    """Length in seconds."""
    return audio["waveform"].shape[-1] / audio["sample_rate"]


def to_mono(audio: Mapping, sample_rate: int = 16000) -> torch.Tensor:
    """The mean of all channels at ``sample_rate``: float32 [S] on the CPU. Raises as check_audio does."""
    check_audio(audio)
    mono = audio["waveform"][0].float().cpu().mean(dim=0, keepdim=True)
    return resample(mono, int(audio["sample_rate"]), sample_rate)[0]


def resample(waveform: torch.Tensor, source_rate: int, target_rate: int) -> torch.Tensor:
    """Convert [C, S] from one whole sample rate to another with FFmpeg's libswresample: float32
    [C, ceil(S * target / source)] on the CPU, without delay."""
    waveform = waveform.detach().float().cpu()
    if source_rate == target_rate:
        return waveform
    total = -(-waveform.shape[-1] * target_rate // source_rate)
    result = waveform.new_zeros(waveform.shape[0], total)
    for sound, resampled in zip(waveform, result, strict=True):
        converter = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)
        done = 0
        for chunk in (*sound.split(RESAMPLED_AT_ONCE), None):
            for piece in converted(converter, chunk, source_rate, target_rate):
                piece = piece[: total - done]
                resampled[done : done + len(piece)] = piece
                done += len(piece)
    return result


def converted(
    converter: av.AudioResampler, chunk: torch.Tensor | None, source_rate: int, target_rate: int
) -> Iterator[torch.Tensor]:
    """What a mono float converter gives for its next samples [S], in pieces; for None, what it has kept back."""
    if chunk is None:
        # The converter looks ahead by half its filter; silence behind the sound brings out the rest of it.
        chunk = torch.zeros(64 * max(1, -(-source_rate // target_rate)))
    frame = av.AudioFrame.from_ndarray(chunk[None].contiguous().numpy(), format="fltp", layout="mono")
    frame.sample_rate = source_rate
    for piece in converter.resample(frame):
        yield torch.from_numpy(piece.to_ndarray())[0]


def pad(audio: Mapping, before_seconds: float = 0.0, after_seconds: float = 0.0) -> dict:
    """The audio with silence added before and after it (rounded to whole samples)."""
    check_audio(audio)
    if before_seconds < 0 or after_seconds < 0:
        raise ValueError("Silence to add must be 0 seconds or more; use trim to shorten audio.")
    rate = int(audio["sample_rate"])
    silence = (round(before_seconds * rate), round(after_seconds * rate))
    return {"waveform": F.pad(audio["waveform"], silence), "sample_rate": rate}


def trim(audio: Mapping, start_seconds: float = 0.0, seconds: float | None = None) -> dict:
    """The part of the audio from ``start_seconds``, ``seconds`` long (None: to the end; never past the end).
    Raises ValueError where nothing would be left."""
    check_audio(audio)
    rate = int(audio["sample_rate"])
    first = round(start_seconds * rate)
    last = None if seconds is None else first + round(seconds * rate)
    if first < 0 or (last is not None and last <= first) or first >= audio["waveform"].shape[-1]:
        length = "the rest" if seconds is None else f"{seconds:g} s"
        raise ValueError(
            f"Cannot take {length} from {start_seconds:g} s of audio that is {duration(audio):.2f} s long."
        )
    return {"waveform": audio["waveform"][..., first:last], "sample_rate": rate}


def mix(audios: Sequence[Mapping]) -> dict:
    """Several sounds played at once: at the highest of their rates, as long as the longest (silence is added
    to the others), with the most channels any of them has. A sound with fewer channels than that is averaged
    to mono and played on all of them. A sum louder than full scale is scaled down to it."""
    if not audios:
        raise ValueError("There is no audio to mix.")
    for audio in audios:
        check_audio(audio)
    rate = max(int(audio["sample_rate"]) for audio in audios)
    channels = max(audio["waveform"].shape[1] for audio in audios)
    parts = []
    for audio in audios:
        sound = audio["waveform"][0].float().cpu()
        if sound.shape[0] < channels:
            sound = sound.mean(dim=0, keepdim=True)
        parts.append(resample(sound, int(audio["sample_rate"]), rate))
    total = torch.zeros(channels, max(part.shape[-1] for part in parts))
    for part in parts:
        total[:, : part.shape[-1]] += part
    return {"waveform": (total / total.abs().max().clamp(min=1)).unsqueeze(0), "sample_rate": rate}


def load_audio(path: str | os.PathLike) -> dict:
    """Read an audio file (or a video's sound) as AUDIO at its own rate and channels.

    Raises FileNotFoundError, or ValueError for a file that holds no sound that can be read.
    """
    rates, pieces = zip(*_decode_file(path), strict=True)
    audio = {"waveform": torch.cat(pieces, dim=1).unsqueeze(0), "sample_rate": rates[0]}
    check_audio(audio)
    return audio


def map_audio(
    path: str | os.PathLike, folder: str | os.PathLike, check_interrupt: Callable[[], None] = lambda: None
) -> dict:
    """As ``load_audio``, for files of hours: the samples lie in a file without a name in ``folder``, 4 bytes each,
    and come into memory where somebody reads them. The file is gone when the AUDIO is.

    Raises OSError too, where the folder has no room.
    """
    samples = channels = sample_rate = 0
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for rate, piece in _decode_file(path):
                check_interrupt()
                file.write(piece.T.contiguous().numpy().data)
                samples, channels, sample_rate = samples + piece.shape[1], len(piece), rate
            file.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                errno.ENOSPC, f"{path} does not fit decoded into {folder}: make room there or cut the file."
            ) from error
        mapped = np.memmap(file, np.float32, "c", shape=(samples, channels))
    audio = {"waveform": torch.from_numpy(mapped).T.unsqueeze(0), "sample_rate": sample_rate}
    check_audio(audio)
    return audio


def decode_clip(data: bytes, limit_seconds: float) -> tuple[torch.Tensor, int]:
    """A whole sound file in memory as its channels' mean, float32 [S], and its sample rate.

    WAV, FLAC, Ogg, MP3, AAC, MP4 and WebM are known by their first bytes; formats that name other files are not
    read. ValueError for anything else, broken sound, and more than ``limit_seconds``.
    """
    format_ = next((name for start, at, name in CLIPS if data[at : at + len(start)] == start), None)
    if format_ is None:
        raise ValueError(
            "This is no WAV, FLAC, Ogg, MP3, AAC, MP4 or WebM sound; for plain samples say their rate."
        )
    rate, samples, pieces = 0, 0, []
    for rate, piece in _decode(io.BytesIO(data), "The sound", format_):
        samples += piece.shape[1]
        if samples > limit_seconds * rate:
            raise ValueError(f"The sound is longer than {limit_seconds:g} s; send it in pieces.")
        pieces.append(piece.mean(dim=0))
    mono = torch.cat(pieces)
    if not torch.isfinite(mono).all():
        raise ValueError("The sound holds NaN or infinite samples.")
    return mono, rate


def mono_samples(data: bytes, format_: str, channels: int) -> torch.Tensor:
    """Plain little-endian samples, ``s16``, ``s24``, ``s32`` or ``f32``, channels side by side, as their mean:
    float32 [S]. ValueError for a part of a sample, NaN and infinite samples."""
    width = int(format_[1:]) // 8
    if len(data) % (width * channels):
        raise ValueError(
            f"{len(data)} bytes are no whole number of {format_} samples in {channels} channel(s)."
        )
    if format_ == "s24":
        data = np.pad(np.frombuffer(data, np.uint8).reshape(-1, 3), ((0, 0), (1, 0))).tobytes()
    if format_ == "f32":
        samples = torch.from_numpy(np.frombuffer(data, "<f4").copy())
    else:
        stored = "<i2" if format_ == "s16" else "<i4"
        samples = torch.from_numpy(np.frombuffer(data, stored) / np.float32(np.iinfo(stored).max + 1))
    if not torch.isfinite(samples).all():
        raise ValueError("The sound holds NaN or infinite samples.")
    return samples.view(-1, channels).float().mean(dim=1)


def _decode_file(path: str | os.PathLike) -> Iterator[tuple[int, torch.Tensor]]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no audio file {path}.")
    return _decode(os.fspath(path), path)


def _decode(
    file: str | io.BytesIO, name: object, format_: str | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """The sound of a file in pieces, at least one: (sample rate, samples [channels, samples])."""
    samples = 0
    try:
        with av.open(file, format=format_) as container:
            if not container.streams.audio:
                raise ValueError(f"{name} holds no audio.")
            stream = container.streams.audio[0]
            convert = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                for plane in convert.resample(frame):
                    samples += plane.samples
                    yield stream.sample_rate, torch.from_numpy(plane.to_ndarray())
    except av.error.FFmpegError as error:
        raise ValueError(f"{name} cannot be read as audio ({error.strerror}).") from error
    if samples == 0:
        raise ValueError(f"{name} holds no audio samples.")
