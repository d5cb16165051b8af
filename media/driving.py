"""Driving videos of every kind that a graph has, as blocks of frames at a constant rate, with their sound."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import av
import torch
from torch import Tensor

from .frames import AvatarStream
from .mapped_sound import map_audio
from .portrait import colours
from .sound_file import NoSound

BLOCK = 8  # frames that are read together
FADE_SECONDS = 0.003  # seconds, on both sides of a cut in the sound


@dataclass(frozen=True)
class DrivingVideo:
    """``blocks()`` starts a pass over uint8 frames ``[<=8, H, W, 3]`` at ``fps``; ``audio`` may be None."""

    blocks: Callable[[], Iterator[Tensor]]
    fps: float
    audio: dict | None


@dataclass(frozen=True)
class _File:
    """The frames of a video file from ``start`` to ``stop``, played at ``fps``; the first is shown at ``begin``.

    All times are seconds on the file's clock.
    """

    place: str | io.BytesIO
    fps: float
    begin: float
    start: float
    stop: float


def open_driving(
    source: Any,
    fps: float,
    max_frames: int = 0,
    folder: str | None = None,
    check_interrupt: Callable[[], None] = lambda: None,
    sound: bool = True,
) -> DrivingVideo:
    """A driving video from an AVATAR_STREAM, a core VIDEO, or IMAGE frames, read lazily.

    The sound of a VIDEO begins with its first frame: earlier sound is left out, and where the file's sound begins
    later, silence comes first.

    Args:
        fps: frame rate of IMAGE frames; the others know their own.
        max_frames: the number of frames to stop after; 0 reads everything.
        folder: holds the decoded sound of a VIDEO; see `map_audio`.
        check_interrupt: called while sound is decoded; raises to stop.
        sound: whether anybody wants the sound; a VIDEO's is decoded as a whole here.

    Raises:
        ValueError: the source cannot be read, or is a live stream.
    """
    if isinstance(source, AvatarStream):
        if source.live:
            raise ValueError(
                "A live stream cannot be read as a video, since nobody knows its length yet; write it to a video "
                "with Avatar Stream to Video first."
            )
        blocks, fps, audio = source.blocks, source.fps, source.audio
    elif hasattr(source, "get_stream_source"):
        file = _probe(source)
        fps, blocks = file.fps, lambda: _decoded(file)
        audio = _sound(file, folder, check_interrupt) if sound else None
    else:
        if len(source) == 0:
            raise ValueError("The driving video has no frames.")
        blocks, audio = lambda: _images(source), None
    return DrivingVideo(lambda: _limited(blocks(), max_frames), float(fps), audio)


def use_threads(stream: av.VideoStream) -> None:
    """Let a stream be decoded by several threads.

    Libraries such as torchvision have FFmpeg's messages logged, for which PyAV 14 takes Python's lock in the decoder's
    threads. Closing a decoder holds that lock and waits for these threads, so a video that is not read to its end
    would hold up the whole process for ever. What matters in these messages is raised as well.
    """
    av.logging.set_level(None)
    stream.thread_type = "AUTO"


def sound_of_frames(audio: dict, frames: Sequence[int], fps: float) -> dict | None:
    """The sound of some frames of a video, ascending; the sound of all other frames is cut out.

    Each cut fades over a few milliseconds, and the result lasts as long as the frames do where the sound does.
    None when the sound has ended before the first of them.
    """
    if frames[-1] == len(frames) - 1:
        return audio
    waveform, rate = audio["waveform"], audio["sample_rate"]
    edge = max(1, round(FADE_SECONDS * rate))
    pieces = []
    for first, last in _runs(frames):
        piece = waveform[..., round(first * rate / fps) : round((last + 1) * rate / fps)].clone()
        length = min(edge, piece.shape[-1])
        if length:
            ramp = torch.linspace(0, 1, length, dtype=piece.dtype, device=piece.device)
            piece[..., :length] *= ramp
            piece[..., -length:] *= ramp.flip(0)
            pieces.append(piece)
    return {"waveform": torch.cat(pieces, -1), "sample_rate": rate} if pieces else None


def _runs(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of every row of neighbouring numbers."""
    start = previous = frames[0]
    for frame in frames[1:]:
        if frame != previous + 1:
            yield start, previous
            start = frame
        previous = frame
    yield start, previous


def _images(frames: Any) -> Iterator[Tensor]:
    """An IMAGE tensor, or a sequence of frames that behaves like one, as uint8 blocks."""
    for start in range(0, len(frames), BLOCK):
        block = colours(frames[start : start + BLOCK])
        yield (block.clamp(0, 1) * 255).round().to(torch.uint8)


def _limited(blocks: Iterator[Tensor], limit: int) -> Iterator[Tensor]:
    left = limit or None
    for block in blocks:
        for part in block.split(BLOCK):
            part = part[:left]
            yield part
            if left is not None:
                left -= len(part)
                if left <= 0:
                    return


def _open(place: str | io.BytesIO) -> av.container.InputContainer:
    if isinstance(place, io.BytesIO):
        place.seek(0)
    try:
        return av.open(place)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"The driving video cannot be read ({error}).") from error


def _probe(source: Any) -> _File:
    """The part of a core VIDEO that is to be read; a variable frame rate becomes its average."""
    place = source.get_stream_source()
    # Newer hosts cut a VIDEO by noting what part of the file it is.
    start, seconds = getattr(source, "get_active_trim_window", lambda: (0.0, 0.0))()
    with _open(place) as container:
        if not container.streams.video:
            raise ValueError("The driving video has no picture.")
        rate = container.streams.video[0].average_rate or container.streams.video[0].guessed_rate
    if not rate:
        raise ValueError("The driving video does not say its frame rate; convert it to mp4 first.")
    file = _File(
        place, float(rate), 0.0, start or float("-inf"), start + seconds if seconds else float("inf")
    )
    return replace(file, begin=next(_frames(file))[0])


def _sound(file: _File, folder: str | None, check_interrupt: Callable[[], None]) -> dict | None:
    try:
        return map_audio(file.place, folder, check_interrupt, file.begin, file.stop, "the driving video")
    except NoSound:
        return None


def _decoded(file: _File) -> Iterator[Tensor]:
    """Frames of a file at a constant rate: each is the file's frame in the middle of its time."""
    ticks = _at_constant_rate(file)
    done = 0
    while block := list(islice(ticks, BLOCK)):
        if any(frame.shape != block[0].shape for frame in block):
            raise ValueError(
                f"The driving video changes its size after about {done} frames; convert it to one size."
            )
        done += len(block)
        yield torch.stack(block)


def _at_constant_rate(file: _File) -> Iterator[Tensor]:
    shown: Tensor | None = None
    count = 0
    for time, frame in _frames(file):
        while shown is not None and (count + 0.5) / file.fps <= time - file.begin:
            yield shown
            count += 1
        shown = _upright(frame)
    yield shown


def _frames(file: _File) -> Iterator[tuple[float, av.VideoFrame]]:
    """The frames of a file that are to be read, at least one, as (seconds on the file's clock, frame)."""
    count = 0
    with _open(file.place) as container:
        stream = container.streams.video[0]
        use_threads(stream)
        try:
            if file.start > 0:
                container.seek(int(file.start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None:
                    raise ValueError("The driving video has frames without a time; convert it to mp4 first.")
                if frame.time >= file.stop:
                    break
                if frame.time >= file.start:
                    yield frame.time, frame
                    count += 1
        except av.error.FFmpegError as error:
            raise ValueError(
                f"The driving video is damaged after {count} frames ({error.strerror})."
            ) from error
    if not count:
        raise ValueError("The driving video has no frames.")


def _upright(frame: av.VideoFrame) -> Tensor:
    """A frame as uint8 ``[H, W, 3]``, turned as its file says: telephones film lying down."""
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    return picture.rot90(round(frame.rotation / 90)).contiguous() if frame.rotation else picture
