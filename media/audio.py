"""Operations on ComfyUI AUDIO: ``{"waveform": float [1, C, S], "sample_rate": int}``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import av
import numpy as np
import torch
import torch.nn.functional as F

from .sound_file import RATES, NoSound, open_sound

RESAMPLED_AT_ONCE = 1 << 16  # samples
LOOKED_AT_AT_ONCE = 1 << 20
CLIP_RATE = 48_000  # higher rates carry nothing that a listener hears
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
"""The first bytes of sound files: the bytes, their offset, and FFmpeg's name of the format."""


def usable(audio: Mapping | None) -> dict:
    """One sound of any node as float32 [1, C, S] on the CPU with an int rate, without further keys.

    Each channel is contiguous; whole numbers become -1 to 1. Sound of this kind is not copied, nor are parts of it.
    Silence and very short sounds are fine.

    Raises:
        ValueError: there is no sound, or a batch, an absurd rate, or samples that are not finite; in one sentence.
    """
    if audio is None:
        raise ValueError(
            "Load a video that has sound, or connect Load Audio instead: this video has no sound."
        )
    if not isinstance(audio, Mapping) or "waveform" not in audio or "sample_rate" not in audio:
        raise ValueError("This is not AUDIO: a dictionary with 'waveform' and 'sample_rate' is needed.")
    waveform, rate = audio["waveform"], _whole_rate(audio["sample_rate"])
    if not isinstance(waveform, torch.Tensor) or waveform.ndim != 3 or waveform.layout != torch.strided:
        raise ValueError("The audio's waveform must be a tensor [batch, channels, samples].")
    batch, channels, samples = waveform.shape
    if batch == 0 or channels == 0 or samples == 0:
        raise ValueError("The audio is empty: it has no samples.")
    if batch > 1:
        raise ValueError(f"The audio is a batch of {batch} sounds: pick one, or mix them into one.")
    if waveform.is_complex() or waveform.dtype == torch.bool:
        raise ValueError(f"The audio's waveform must hold floats between -1 and 1, not {waveform.dtype}.")
    if waveform.requires_grad:
        waveform = waveform.detach()
    kind = waveform.dtype
    waveform = waveform.to("cpu", torch.float32)
    if waveform.stride(-1) != 1:
        waveform = waveform.contiguous()
    if not kind.is_floating_point:
        limits = torch.iinfo(kind)
        half, middle = (limits.max - limits.min + 1) / 2, (limits.max + limits.min + 1) / 2
        waveform = (waveform - middle) / half
    if not all(torch.isfinite(part).all() for part in waveform.split(LOOKED_AT_AT_ONCE, dim=-1)):
        raise ValueError("The audio holds NaN or infinite samples: load or generate it again.")
    return {"waveform": waveform, "sample_rate": rate}


def _whole_rate(rate: object) -> int:
    """A sample rate of whatever numeric type as an int."""
    try:
        whole = int(rate)
        right = whole == rate and RATES[0] <= whole <= RATES[1]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        right = False
    if not right:
        raise ValueError(
            f"Resample the audio to a whole number of {RATES[0]} to {RATES[1]} Hz: its rate is {repr(rate)[:40]}."
        )
    return whole


def duration(audio: Mapping) -> float:
    """Length in seconds."""
    return audio["waveform"].shape[-1] / audio["sample_rate"]


def to_mono(audio: Mapping, sample_rate: int = 16000) -> torch.Tensor:
    """The mean of all channels at ``sample_rate``: float32 [S] on the CPU. Raises as `usable` does."""
    audio = usable(audio)
    mono = audio["waveform"][0].mean(dim=0, keepdim=True)
    return resample(mono, audio["sample_rate"], sample_rate)[0]


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
    """The output of a mono float converter for its next samples [S], in pieces; for None, the samples it kept back."""
    if chunk is None:
        # The converter looks ahead by half its filter; silence behind the sound brings out the rest of it.
        chunk = torch.zeros(64 * max(1, -(-source_rate // target_rate)))
    frame = av.AudioFrame.from_ndarray(chunk[None].contiguous().numpy(), format="fltp", layout="mono")
    frame.sample_rate = source_rate
    for piece in converter.resample(frame):
        yield torch.from_numpy(piece.to_ndarray())[0]


class Resampler:
    """Converts mono sound that arrives in pieces, without a seam between them."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._rates = source_rate, target_rate
        self._converter = None
        if source_rate != target_rate:
            self._converter = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)

    def __call__(self, samples: torch.Tensor | None) -> torch.Tensor:
        """What the next samples [S] bring out; None at the end brings out the rest."""
        if self._converter is None:
            return torch.zeros(0) if samples is None else samples.float()
        if samples is not None and not len(samples):
            return samples.float()
        return torch.cat([torch.zeros(0), *converted(self._converter, samples, *self._rates)])


def pad(audio: Mapping, before_seconds: float = 0.0, after_seconds: float = 0.0) -> dict:
    """The audio with silence added before and after it (rounded to whole samples)."""
    audio = usable(audio)
    if before_seconds < 0 or after_seconds < 0:
        raise ValueError("Silence to add must be 0 seconds or more; use trim to shorten audio.")
    rate = audio["sample_rate"]
    silence = (round(before_seconds * rate), round(after_seconds * rate))
    return {"waveform": F.pad(audio["waveform"], silence), "sample_rate": rate}


def trim(audio: Mapping, start_seconds: float = 0.0, seconds: float | None = None) -> dict:
    """The part of the audio from ``start_seconds``, ``seconds`` long (None: to the end; never past the end).

    Raises:
        ValueError: nothing would be left.
    """
    audio = usable(audio)
    rate = audio["sample_rate"]
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
    audios = [usable(audio) for audio in audios]
    rate = max(audio["sample_rate"] for audio in audios)
    channels = max(audio["waveform"].shape[1] for audio in audios)
    parts = []
    for audio in audios:
        sound = audio["waveform"][0]
        if sound.shape[0] < channels:
            sound = sound.mean(dim=0, keepdim=True)
        parts.append(resample(sound, audio["sample_rate"], rate))
    total = torch.zeros(channels, max(part.shape[-1] for part in parts))
    for part in parts:
        total[:, : part.shape[-1]] += part
    return {"waveform": (total / total.abs().max().clamp(min=1)).unsqueeze(0), "sample_rate": rate}


def clip_format(data: bytes) -> str | None:
    """FFmpeg's name of a sound file's format, by its first bytes; None for another one."""
    return next((name for start, at, name in CLIPS if data[at : at + len(start)] == start), None)


def check_clip(data: bytes, name: str, most_bytes: int) -> str:
    """FFmpeg's name of a sound file's format, once it was read to its end.

    Args:
        name: of the sound, in messages.
        most_bytes: size of its samples as float32.

    Raises:
        ValueError: the bytes are no sound, or too much of it; in one sentence.
    """
    kind, size = clip_format(data), 0
    if kind is None:
        raise ValueError(f"Send {name} as WAV, FLAC, Ogg, MP3, AAC, MP4 or WebM: these bytes are none.")
    with open_sound(io.BytesIO(data), name, kind, CLIP_RATE) as opened:
        for _, _, piece in opened.pieces():
            size += piece.numel() * piece.element_size()
            if size > most_bytes:
                raise ValueError(f"Send {name} in parts: decoded it is more than {most_bytes >> 30} GB.")
    if not size:
        raise NoSound(f"Send another {name}: there is no sound in it.")
    return kind


def decode_clip(data: bytes, limit_seconds: float) -> tuple[torch.Tensor, int]:
    """A whole sound file in memory as its channels' mean, float32 [S], and its sample rate
    (48 kHz where it is higher).

    WAV, FLAC, Ogg, MP3, AAC, MP4 and WebM are known by their first bytes; formats that name other files are not
    read.

    Raises:
        ValueError: the bytes are anything else, broken sound, or more than ``limit_seconds``.
    """
    format_ = clip_format(data)
    if format_ is None:
        raise ValueError(
            "Name the rate of samples without a header: this is no WAV, FLAC, Ogg, MP3, AAC, MP4 or WebM sound."
        )
    samples, pieces = 0, []
    with open_sound(io.BytesIO(data), "this clip", format_, CLIP_RATE) as sound:
        for rate, _, piece in sound.pieces():
            samples += piece.shape[1]
            if samples > limit_seconds * rate:
                raise ValueError(f"The sound is longer than {limit_seconds:g} s; send it in pieces.")
            pieces.append(piece.mean(dim=0))
    if not pieces:
        raise NoSound("Send a sound with samples: this one has none.")
    mono = torch.cat(pieces)
    if not torch.isfinite(mono).all():
        raise ValueError("The sound holds NaN or infinite samples.")
    return mono, rate


def mono_samples(data: bytes, format_: str, channels: int) -> torch.Tensor:
    """The mean of the channels of little-endian samples without a header, float32 [S].

    They are ``s16``, ``s24``, ``s32`` or ``f32``, with the channels side by side.

    Raises:
        ValueError: there is a part of a sample, or a sample that is NaN or infinite.
    """
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
