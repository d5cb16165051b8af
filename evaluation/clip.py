"""A video to measure, from a file or from a stream, read once and in the memory of a few frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from ..media.frames import AvatarStream
from ..media.mapped_sound import map_audio
from ..media.sound_file import NoSound

AT_ONCE = 8
"""Frames that are read together."""
MOST_PIXELS = 64_000_000
"""Pixels of the largest frame that is read; 8K has half as many."""
UNEVEN = 0.25
"""A distance of two frames that is off the usual one by this part makes a frame rate variable."""


@dataclass(frozen=True)
class Piece:
    """Some frames, uint8 ``[F, H, W, 3]`` on the CPU, and when each is shown, float64 ``[F]`` in seconds from the
    first."""

    times: Tensor
    frames: Tensor


@dataclass
class Clip:
    """One video: ``pieces()`` starts a pass, ``sound()`` gives ComfyUI's AUDIO or None.

    Attributes:
        fps: mean frame rate.
        length: about how many frames there are; 0 where nobody knows.
        notes: sentences about what is odd in this video; complete after a pass.
    """

    name: str
    fps: float
    width: int
    height: int
    length: int
    pieces: Callable[[], Iterator[Piece]]
    sound: Callable[[], Mapping[str, Any] | None]
    notes: list[str] = field(default_factory=list)


def open_file(path: str | os.PathLike) -> Clip:
    """A video file; turned pictures are set upright, and times are the file's own.

    Raises:
        ValueError: the file is no video that can be read. Damage further inside is found during the pass.
    """
    path = Path(path)
    with _open(path) as container:
        if not container.streams.video:
            raise ValueError(f"Choose a file with a picture: {path.name} has none.")
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        length = stream.frames or round(fps * (container.duration or 0) / av.time_base)
    if not width or not height or width * height > MOST_PIXELS:
        raise ValueError(f"Make {path.name} smaller: its frames are {width}x{height}.")
    if fps <= 0:
        raise ValueError(f"Convert {path.name} to mp4: it does not say its frame rate.")
    clip = Clip(path.name, fps, width, height, length, lambda: _pieces(clip, path), lambda: _sound(path))
    return clip


def open_stream(stream: AvatarStream, name: str = "stream") -> Clip:
    """The frames and the sound of a stream that has an end."""

    def pieces() -> Iterator[Piece]:
        done = 0
        for block in stream.blocks():
            for part in block.split(AT_ONCE):
                times = torch.arange(done, done + len(part), dtype=torch.float64) / stream.fps
                yield Piece(times, part)
                done += len(part)

    audio = stream.audio
    return Clip(name, float(stream.fps), stream.width, stream.height, stream.frames, pieces, lambda: audio)


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise FileNotFoundError(f"Check the name: there is no video {path}.")
    try:
        return av.open(os.fspath(path))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"Make {path.name} again: it cannot be read as a video ({error}).") from error


def _pieces(clip: Clip, path: Path) -> Iterator[Piece]:
    times: list[float] = []
    frames: list[Tensor] = []
    begin = previous = None
    uneven = count = 0
    for time, picture in _frames(path):
        begin = time if begin is None else begin
        if frames and picture.shape != frames[0].shape:
            raise ValueError(f"Convert {path.name} to one size: it changes after {count} frames.")
        if previous is not None and abs((time - previous) * clip.fps - 1) > UNEVEN:
            uneven += 1
        previous = time
        times.append(time - begin)
        frames.append(picture)
        count += 1
        if len(frames) == AT_ONCE:
            yield Piece(torch.tensor(times, dtype=torch.float64), torch.stack(frames))
            times, frames = [], []
    if frames:
        yield Piece(torch.tensor(times, dtype=torch.float64), torch.stack(frames))
    if not count:
        raise ValueError(f"Make {path.name} again: it has no frames.")
    if uneven:
        clip.notes.append(
            f"The frame rate is not constant: {uneven} of {count} frames come at another distance than 1/"
            f"{clip.fps:g} s."
        )


def _frames(path: Path) -> Iterator[tuple[float, Tensor]]:
    """Time on the file's clock in seconds, and uint8 ``[H, W, 3]``."""
    count = 0
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise ValueError(f"Convert {path.name} to mp4: it has frames without a time.")
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                if frame.rotation:
                    picture = picture.rot90(round(frame.rotation / 90)).contiguous()
                yield frame.time, picture
                count += 1
        except av.error.FFmpegError as error:
            raise ValueError(
                f"Make {path.name} again: it is damaged after {count} frames ({error.strerror})."
            ) from error


def _sound(path: Path) -> dict | None:
    try:
        with _open(path) as container:
            first = next(container.decode(container.streams.video[0]), None)
        return map_audio(path, begin=None if first is None else first.time)
    except NoSound:
        return None
