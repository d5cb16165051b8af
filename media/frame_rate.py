"""A stream brought to another frame rate: frames are shown longer or left out, and the sound stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import torch

from .frames import AvatarStream, PassState, Resumable

LARGEST_DENOMINATOR = 1001
"""Frame rates are whole numbers, or those of television."""


def at_frame_rate(stream: AvatarStream, fps: float) -> AvatarStream:
    """The same video and sound in ``fps`` frames per second; the very stream where it has them already.

    Each frame is the source's nearest one in time. None is made between two, so speed, length (within half a frame) and
    sync stay, and a stream is read block by block as before. A stream that can be gone on with still can.

    Raises:
        ValueError: ``fps`` is not above 0.
    """
    if not fps > 0:
        raise ValueError(f"Set fps to more than 0: it is {fps}.")
    if fps == stream.fps:
        return stream
    rate = _Rate(stream.fps, fps)

    def start(state: _State | None = None) -> Iterator[torch.Tensor]:
        first = 0 if state is None else state.inner.first_frame
        return rate.chosen(stream.blocks(None if state is None else state.inner), first)

    return stream.changed(
        start,
        frames=None if stream.live else rate.count(stream.frames),
        fps=fps,
        resumable=stream.resumable and _resumable(stream.resumable, rate, fps),
    )


class _Rate:
    """Which frames of a source are the frames of the result."""

    def __init__(self, source: float, fps: float) -> None:
        self._step = _exact(source) / _exact(fps)

    def count(self, frames: int) -> int:
        """How many frames the first ``frames`` frames of the source give."""
        return max(0, -((1 - 2 * frames) // (2 * self._step)))

    def chosen(self, blocks: Iterator[torch.Tensor], first: int) -> Iterator[torch.Tensor]:
        """The frames of ``blocks``, which begin with the source's frame ``first``; closes them at the end."""
        try:
            for block in blocks:
                end = first + len(block)
                numbers = range(self.count(first), self.count(end))
                if numbers:
                    yield block[[int(number * self._step + Fraction(1, 2)) - first for number in numbers]]
                first = end
        finally:
            blocks.close()


class _State:
    """A `PassState` of the source, counted in frames of the result."""

    def __init__(self, inner: PassState, rate: _Rate) -> None:
        self.inner, self._rate = inner, rate
        self.settle, self.size, self.save, self.release = (
            inner.settle,
            inner.size,
            inner.save,
            inner.release,
        )

    @property
    def first_frame(self) -> int:
        return self._rate.count(self.inner.first_frame)

    @property
    def frames(self) -> int | None:
        frames = self.inner.frames
        return None if frames is None else self._rate.count(frames)


def _resumable(resumable: Resumable, rate: _Rate, fps: float) -> Resumable:
    begin: Callable[[Path | None, str], PassState] = resumable.state
    mark = f"-{fps:g}fps"
    return Resumable(
        fingerprint=lambda: resumable.fingerprint() + mark,
        # The source's own snapshot knows nothing of the rate.
        state=lambda path, fingerprint: _State(begin(path, fingerprint), rate),
        about={**resumable.about, "fps": fps},
    )


def _exact(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(LARGEST_DENOMINATOR)
