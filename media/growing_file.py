"""A sound file that another program is still writing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from .audio import mono_samples
from .sound_file import MOST_CHANNELS
from .speech_feed import SpeechFeed

UNKNOWN = (0, 0xFFFFFFFF, 0x7FFFFFFF)
"""The values that writers put in place of a length that they do not know yet."""
READ_SECONDS, READ_BYTES = 10.0, 32 << 20
"""Sound that is read at once, at most."""
FORMATS = {(1, 16): "s16", (1, 24): "s24", (1, 32): "s32", (3, 32): "f32"}
"""WAV's format tag and bits per sample."""


class GrowingFile:
    """Reads a WAV file, or mono samples without a header, into a feed while it grows.

    It ends when ``<name>.end`` exists beside it, when a WAV file's unfinished header has been completed, or when
    it has not grown for ``idle_seconds`` (0: never).

    Args:
        path: a WAV file; ``.f32`` (float32) and everything else (16 bits) are little-endian samples without a header.
        raw_rate: sample rate of samples without a header.
        clock: seconds, for tests.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a WAV file has no whole header, or is of a kind that is not read.
    """

    def __init__(
        self,
        path: Path,
        raw_rate: int,
        idle_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no sound file {path}; begin the run when it is being written.")
        self.path, self.idle_seconds, self._clock = path, idle_seconds, clock
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed with this object)
        self._length_at: int | None = None
        self.rate, self._channels, self._format = raw_rate, 1, "f32" if path.suffix == ".f32" else "s16"
        if path.suffix.lower() == ".wav":
            self._read_header()
        self._frame = self._channels * int(self._format[1:]) // 8
        self._start = self._file.tell()
        length = self._length()
        self._was_complete = length is not None and path.stat().st_size >= self._start + length
        self._grown = clock()

    def poll(self, feed: SpeechFeed) -> None:
        """Move new sound into the feed, as much as it takes, and end the feed at the end; nothing where the video ends
        before the file does."""
        if feed.ended:
            return
        marked = self.path.with_name(self.path.name + ".end").exists()  # asked before the last bytes are read
        length = self._length()
        seconds = min(READ_SECONDS, feed.limit_seconds - feed.waiting_seconds)
        wanted = min(int(seconds * self.rate), READ_BYTES // self._frame) * self._frame
        place = self._file.tell()
        if length is not None:
            wanted = min(wanted, self._start + length - place)
        data = self._file.read(max(0, wanted))
        whole = len(data) // self._frame * self._frame
        self._file.seek(place + whole)
        if whole:
            self._grown = self._clock()
            feed.write(self._samples(data[:whole]), self.rate)
        elif wanted > 0 or length is not None:
            completed = length is not None and not self._was_complete and place >= self._start + length
            idle = 0 < self.idle_seconds <= self._clock() - self._grown
            if marked or completed or idle:
                feed.end()

    def _samples(self, data: bytes) -> torch.Tensor:
        try:
            return mono_samples(data, self._format, self._channels)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def _read_header(self) -> None:
        riff = self._file.read(12)
        kind = None
        while riff[:4] == b"RIFF" and riff[8:] == b"WAVE" and len(head := self._file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data" and kind is not None:
                self._length_at = self._file.tell() - 4
                return
            body_at = self._file.tell()
            body = self._file.read(26) if head[:4] == b"fmt " else b""
            if len(body) >= 16:
                tag, self._channels, self.rate = (
                    int.from_bytes(body[start:stop], "little") for start, stop in ((0, 2), (2, 4), (4, 8))
                )
                if tag == 0xFFFE:
                    tag = int.from_bytes(body[24:26], "little")
                kind = tag, int.from_bytes(body[14:16], "little")
                right = 1 <= self._channels <= MOST_CHANNELS and 8000 <= self.rate <= 96_000
                if kind not in FORMATS or not right:
                    raise ValueError(
                        f"{self.path} has sound of a kind that is not read while it grows; write 16-bit or float WAV "
                        f"at 8 to 96 kHz, with {MOST_CHANNELS} channels or fewer."
                    )
                self._format = FORMATS[kind]
            self._file.seek(body_at + size + size % 2)
        raise ValueError(
            f"{self.path} has no whole WAV header; begin the run when its first sound is written."
        )

    def _length(self) -> int | None:
        """Bytes of sound that the WAV header claims at this moment; None where it claims nothing."""
        if self._length_at is None:
            return None
        place = self._file.tell()
        self._file.seek(self._length_at)
        length = int.from_bytes(self._file.read(4), "little")
        self._file.seek(place)
        return None if length in UNKNOWN else length
