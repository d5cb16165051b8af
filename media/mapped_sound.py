"""Sound files of hours as AUDIO that lies on the disk."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .audio import usable
from .sound_file import NoSound, open_sound

COPIED_AT_ONCE = 1 << 22  # bytes
CONTINUOUS_SECONDS = 0.05
"""Time stamps that are off by less, as those of files with coarse clocks are, mean no gap."""


def map_audio(
    file: str | os.PathLike | io.BytesIO,
    folder: str | os.PathLike | None = None,
    check_interrupt: Callable[[], None] = lambda: None,
    begin: float | None = None,
    end: float = float("inf"),
    name: object = None,
) -> dict:
    """The sound of a file or video as AUDIO at its own rate (192 kHz at most) and with its own channels.

    The samples lie in a nameless file in ``folder`` (None: the system's temporary one), 4 bytes each, one channel after
    the other, and come into memory where somebody reads them. That file is gone when the AUDIO is.

    Args:
        check_interrupt: called now and then; raises to stop.
        begin: the second on the file's clock at which the AUDIO begins. Sound before it is left out; silence fills
            the time from there to the first sound, and gaps. None: the first sample, and no gaps are filled.
        end: the second on the file's clock behind which nothing needs to be read.
        name: the file's name in messages; its path if None.

    Raises:
        FileNotFoundError: there is no such file.
        NoSound: the file has no sound.
        ValueError: the sound cannot be read.
        OSError: the disk of ``folder`` is too full; before anything is decoded where that can be known.
    """
    folder, name = folder or tempfile.gettempdir(), name or file
    with ExitStack() as files:
        rows = _Rows(files, folder, name)
        try:
            with open_sound(file, name) as sound:
                rows.check_room(sound.claimed_bytes)
                for rate, time, piece in sound.pieces():
                    check_interrupt()
                    if time is not None and time >= end:
                        break
                    place = None if begin is None or time is None else round((time - begin) * rate)
                    rows.add(piece, place, round(CONTINUOUS_SECONDS * rate))
            if not rows.samples:
                raise NoSound(f"Choose a file or video with sound: {name} has no sound.")
            mapped = rows.joined(check_interrupt)
        except OSError as error:
            if error.errno != errno.ENOSPC or isinstance(error, NoRoom):
                raise
            raise NoRoom(folder, name) from error
    return usable({"waveform": torch.from_numpy(mapped)[None], "sample_rate": rate})


class NoRoom(OSError):
    """The disk is too full for a sound."""

    def __init__(self, folder: str | os.PathLike, name: object) -> None:
        super().__init__(
            errno.ENOSPC, f"Make room in {folder} or cut the file: {name} does not fit there decoded."
        )


class _Rows:
    """The channels of a sound as files: one each, because nobody knows their length while they are written."""

    def __init__(self, files: ExitStack, folder: str | os.PathLike, name: object) -> None:
        self._files, self._folder, self._name = files, folder, name
        self._rows: list[BinaryIO] = []
        self.samples = 0

    def check_room(self, size: int) -> None:
        if size > shutil.disk_usage(self._folder).free:
            raise NoRoom(self._folder, self._name)

    def _file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._folder)

    def add(self, piece: Tensor, place: int | None, tolerance: int) -> None:
        """Append samples [channels, S]; with a ``place``, put them there, if that is further off than the tolerance."""
        if not self._rows:
            self._rows = [self._files.enter_context(self._file()) for _ in piece]
        gap = 0 if place is None else place - self.samples
        if self.samples and abs(gap) <= tolerance:
            gap = 0
        if gap > 0:
            self.check_room(gap * len(self._rows) * 4)
            self.samples += gap
        piece = piece[:, max(0, -gap) :]
        if not piece.shape[1]:
            return
        for row, samples in zip(self._rows, piece, strict=True):
            if gap > 0:
                row.seek(self.samples * 4)
            row.write(samples.contiguous().numpy().data)
        self.samples += piece.shape[1]

    def joined(self, check_interrupt: Callable[[], None]) -> np.memmap:
        """All of it, [channels, S]. Meanwhile the disk holds one channel twice."""
        whole = self._rows[0]
        for row in self._rows[1:]:
            row.seek(0)
            while part := row.read(COPIED_AT_ONCE):
                check_interrupt()
                whole.write(part)
            row.close()
        whole.flush()
        return np.memmap(whole, np.float32, "c", shape=(len(self._rows), self.samples))
