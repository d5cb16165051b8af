"""Driving videos of every kind a graph has, as one thing: blocks of frames at a constant rate, with their
sound."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import av
import torch
from torch import Tensor

from ..media.audio import load_audio
from ..media.frames import AvatarStream
from ..media.portrait import colours

BLOCK = 8  # frames looked at together
FADE_SECONDS = 0.003  # at both sides of a cut in the sound


@dataclass(frozen=True)
class DrivingVideo:
    """``blocks()`` starts a pass over uint8 frames ``[<=8, H, W, 3]`` at ``fps``; ``audio`` may be None."""

    blocks: Callable[[], Iterator[Tensor]]
    fps: float
    audio: dict | None


def open_driving(source: Any, fps: float, max_frames: int = 0) -> DrivingVideo:
    """A driving video from an AVATAR_STREAM, a core VIDEO, or IMAGE frames, read lazily.

    fps: of IMAGE frames; the others know their own. max_frames: stop there; 0 reads everything.
    ValueError says what is wrong with the source.
    """
    if isinstance(source, AvatarStream):
        if source.live:
            raise ValueError(
                "A live stream cannot drive PersonaLive, since nobody knows its length yet; write it to a video "
                "with LiveAvatar Stream to Video first."
            )
        blocks, fps, audio = source.blocks, source.fps, source.audio
    elif hasattr(source, "get_stream_source"):
        place = source.get_stream_source()
        fps, sounds = _probe(place)
        audio = _sound(source, place) if sounds else None
        blocks = lambda: _decoded(place, fps)  # noqa: E731
    else:
        if len(source) == 0:
            raise ValueError("The driving video has no frames.")
        blocks, audio = lambda: _images(source), None
    return DrivingVideo(lambda: _limited(blocks(), max_frames), float(fps), audio)


def sound_of_frames(audio: dict, frames: Sequence[int], fps: float) -> dict | None:
    """The sound of some frames of a video, ascending: what belongs to the others is cut out.

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


def _probe(place: str | io.BytesIO) -> tuple[float, bool]:
    """Frames per second (the average of a variable rate), and whether there is sound."""
    with _open(place) as container:
        if not container.streams.video:
            raise ValueError("The driving video has no picture.")
        rate = container.streams.video[0].average_rate or container.streams.video[0].guessed_rate
        sounds = bool(container.streams.audio)
    if not rate:
        raise ValueError("The driving video does not say its frame rate; convert it to mp4 first.")
    return float(rate), sounds


def _sound(source: Any, place: str | io.BytesIO) -> dict | None:
    """The sound of a VIDEO; one in memory is small, so the host may read all of it."""
    if isinstance(place, str) and os.path.isfile(place):
        return load_audio(place)
    return source.get_components().audio


def _decoded(place: str | io.BytesIO, fps: float) -> Iterator[Tensor]:
    """Frames of a file at a constant rate: what the file shows in the middle of each frame's time."""
    ticks = _at_constant_rate(place, fps)
    done = 0
    while block := list(islice(ticks, BLOCK)):
        if any(frame.shape != block[0].shape for frame in block):
            raise ValueError(
                f"The driving video changes its size after about {done} frames; convert it to one size."
            )
        done += len(block)
        yield torch.stack(block)


def _at_constant_rate(place: str | io.BytesIO, fps: float) -> Iterator[Tensor]:
    shown: Tensor | None = None
    first: float | None = None
    count = 0
    with _open(place) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise ValueError("The driving video has frames without a time; convert it to mp4 first.")
                first = frame.time if first is None else first
                while shown is not None and (count + 0.5) / fps <= frame.time - first:
                    yield shown
                    count += 1
                shown = _upright(frame)
        except av.error.FFmpegError as error:
            raise ValueError(
                f"The driving video is damaged after {count} frames ({error.strerror})."
            ) from error
    if shown is None:
        raise ValueError("The driving video has no frames.")
    yield shown


def _upright(frame: av.VideoFrame) -> Tensor:
    """A frame as uint8 ``[H, W, 3]``, turned as its file says: telephones film lying down."""
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    return picture.rot90(round(frame.rotation / 90)).contiguous() if frame.rotation else picture
