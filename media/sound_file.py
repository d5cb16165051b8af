"""The sound of files and videos, decoded piece by piece."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
import torch
from torch import Tensor

RATES = 1000, 1_000_000
"""Lowest and highest sample rate of sound, in Hz; FFmpeg's converter takes gigabytes for others."""
MOST_CHANNELS = 64
"""FFmpeg's converter knows no more channels."""


class NoSound(ValueError):
    """The file can be read, but there is no sound in it."""


class SoundFile:
    """The first sound of an open file that can be read.

    Attributes:
        claimed_bytes: size of the sound, decoded to float32, by the file's own account; 0 where it says nothing.
        name: its name in messages.
    """

    def __init__(self, container: av.container.InputContainer, name: object, most_rate: int) -> None:
        if not container.streams.audio:
            raise NoSound(f"Choose a file or video with sound: {name} has no sound.")
        self.name, self._container, self._most_rate = name, container, most_rate
        readable = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not readable:
            raise ValueError(f"Convert {name} to another format: its sound is of a kind that is not known.")
        self._stream = readable[0]
        context = self._stream.codec_context
        rate, channels = context.sample_rate, context.layout.nb_channels
        if rate:
            self._check(rate, channels)
        if self._stream.duration is not None and self._stream.time_base is not None:
            seconds = float(self._stream.duration * self._stream.time_base)
        else:
            seconds = (container.duration or 0) / av.time_base
        self.claimed_bytes = max(0, round(seconds * min(rate, most_rate) * channels * 4))

    def pieces(self) -> Iterator[tuple[int, float | None, Tensor]]:
        """All of the sound: (sample rate, seconds on the file's clock, float32 [channels, samples]).

        Rate and channels are those of the first piece, also where the file changes them. A piece without a time
        joins on.
        """
        # Packed, because PyAV reads planes that are not there where planar sound has 8 channels or more.
        converter, kind, form = None, None, None
        for frame in self._container.decode(self._stream):
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            found = frame.format.name, frame.layout.name, rate
            if found != kind:
                self._check(rate, channels)
                if converter is not None:
                    yield from _packed(converter.resample(None), None)
                form = form or (frame.layout, min(rate, self._most_rate))
                converter = av.AudioResampler("flt", *form)
                kind = found
            yield from _packed(converter.resample(frame), frame.time)
        if converter is not None:
            yield from _packed(converter.resample(None), None)

    def _check(self, rate: int, channels: int) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(
                f"Convert {self.name} to 48000 Hz: a sample rate of {rate} Hz is not that of a sound."
            )
        if channels > MOST_CHANNELS:
            raise ValueError(f"Mix {self.name} down to {MOST_CHANNELS} channels or fewer: it has {channels}.")


@contextmanager
def open_sound(
    file: str | os.PathLike | io.BytesIO, name: object, format_: str | None = None, most_rate: int = 192_000
) -> Iterator[SoundFile]:
    """The sound of a file, which is open inside ``with``; above ``most_rate`` it is converted to that.

    Errors may also come inside ``with``.

    Raises:
        FileNotFoundError: there is no such file.
        NoSound: the file has no sound.
        ValueError: the sound cannot be read.
    """
    if isinstance(file, io.BytesIO):
        file.seek(0)
    elif not os.path.isfile(file):
        raise FileNotFoundError(f"There is no audio file {name}.")
    try:
        with av.open(file if isinstance(file, io.BytesIO) else os.fspath(file), format=format_) as container:
            yield SoundFile(container, name, most_rate)
    except av.error.FFmpegError as error:
        raise ValueError(f"{name} cannot be read as audio ({error.strerror}).") from error


def _packed(frames: list[av.AudioFrame], time: float | None) -> Iterator[tuple[int, float | None, Tensor]]:
    for frame in frames:
        samples = torch.from_numpy(frame.to_ndarray()).view(-1, frame.layout.nb_channels).T
        if samples.numel():
            yield frame.sample_rate, time, samples
            time = None
