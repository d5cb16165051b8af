"""Operations on ComfyUI AUDIO: ``{"waveform": float [1, C, S], "sample_rate": int}``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import av
import torch
import torch.nn.functional as F

RESAMPLED_AT_ONCE = 1 << 16  # samples


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
    if not torch.isfinite(waveform).all():
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
    # The converter looks ahead by half its filter; silence behind the sound brings out the rest of it.
    silence = waveform.new_zeros(64 * max(1, -(-source_rate // target_rate)))
    for sound, converted in zip(waveform, result, strict=True):
        converter = av.AudioResampler(format="fltp", layout="mono", rate=target_rate)
        done = 0
        for chunk in (*sound.split(RESAMPLED_AT_ONCE), silence):
            frame = av.AudioFrame.from_ndarray(chunk[None].contiguous().numpy(), format="fltp", layout="mono")
            frame.sample_rate = source_rate
            for piece in converter.resample(frame):
                piece = torch.from_numpy(piece.to_ndarray())[0, : total - done]
                converted[done : done + len(piece)] = piece
                done += len(piece)
    return result


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
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no audio file {path}.")
    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} holds no audio.")
            stream = container.streams.audio[0]
            rate = stream.sample_rate
            convert = av.AudioResampler(format="fltp")
            chunks = [
                torch.from_numpy(plane.to_ndarray())
                for frame in container.decode(stream)
                for plane in convert.resample(frame)
            ]
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as audio ({error.strerror}).") from error
    if not chunks:
        raise ValueError(f"{path} holds no audio samples.")
    audio = {"waveform": torch.cat(chunks, dim=1).unsqueeze(0), "sample_rate": rate}
    check_audio(audio)
    return audio
