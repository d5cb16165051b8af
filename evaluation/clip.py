"""A video to measure, from a file or from a stream, read once and in the memory of a few frames."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from ..media.driving import use_threads
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


@dataclass(frozen=True)
class _Part:
    """The part of a file, or of a file's bytes, from ``start`` to ``stop``, in seconds on the file's clock."""

    place: str | io.BytesIO
    name: str
    start: float = float("-inf")
    stop: float = float("inf")


def open_file(path: str | os.PathLike) -> Clip:
    """A video file; turned pictures are set upright, and times are the file's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no video that can be read. Damage further inside is found during the pass.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Check the name: there is no video {path}.")
    return _clip(_Part(os.fspath(path), path.name))


def open_video(video: Any) -> Clip:
    """A core VIDEO, also one that was cut; ValueError as with `open_file`."""
    place = video.get_stream_source()
    # Newer hosts cut a VIDEO by noting what part of the file it is.
    start, seconds = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    name = Path(place).name if isinstance(place, str) else "the video"
    return _clip(_Part(place, name, start or float("-inf"), start + seconds if seconds else float("inf")))


def _clip(part: _Part) -> Clip:
    with _open(part) as container:
        if not container.streams.video:
            raise ValueError(f"Choose a file with a picture: {part.name} has none.")
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        length = stream.frames or round(fps * (container.duration or 0) / av.time_base)
    if not width or not height or width * height > MOST_PIXELS:
        raise ValueError(f"Make {part.name} smaller: its frames are {width}x{height}.")
    if fps <= 0:
        raise ValueError(f"Convert {part.name} to mp4: it does not say its frame rate.")
    clip = Clip(part.name, fps, width, height, length, lambda: _pieces(clip, part), lambda: _sound(part))
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


def _open(part: _Part) -> av.container.InputContainer:
    if isinstance(part.place, io.BytesIO):
        part.place.seek(0)
    try:
        return av.open(part.place)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(
            f"Make {part.name} again: it cannot be read as a video ({error.strerror})."
        ) from error


def _pieces(clip: Clip, part: _Part) -> Iterator[Piece]:
    times: list[float] = []
    frames: list[Tensor] = []
    begin = previous = None
    uneven = count = 0
    for time, picture in _frames(part):
        begin = time if begin is None else begin
        if frames and picture.shape != frames[0].shape:
            raise ValueError(f"Convert {part.name} to one size: it changes after {count} frames.")
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
        raise ValueError(f"Make {part.name} again: it has no frames.")
    if uneven:
        clip.notes.append(
            f"The frame rate is not constant: {uneven} of {count} frames come at another distance than 1/"
            f"{clip.fps:g} s."
        )


def _frames(part: _Part) -> Iterator[tuple[float, Tensor]]:
    """Time on the file's clock in seconds, and uint8 ``[H, W, 3]``."""
    count = 0
    with _open(part) as container:
        stream = container.streams.video[0]
        use_threads(stream)
        try:
            if part.start > 0:
                container.seek(int(part.start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None:
                    raise ValueError(f"Convert {part.name} to mp4: it has frames without a time.")
                if frame.time >= part.stop:
                    break
                if frame.time < part.start:
                    continue
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                if frame.rotation:
                    picture = picture.rot90(round(frame.rotation / 90)).contiguous()
                yield frame.time, picture
                count += 1
        except av.error.FFmpegError as error:
            raise ValueError(
                f"Make {part.name} again: it is damaged after {count} frames ({error.strerror})."
            ) from error


def _sound(part: _Part) -> dict | None:
    try:
        return map_audio(part.place, begin=next(_frames(part))[0], end=part.stop, name=part.name)
    except NoSound:
        return None
