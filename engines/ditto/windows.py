"""Motion of any length out of windows of 80 frames, while the speech is still coming.

Each window starts from the motion of the frame before it and fades in over the frames that it shares with the window
before. A frame is handed out as soon as no later window changes it. What is kept does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..gpu.transfer import send
from .conditions import Conditions
from .config import WINDOW, WindowConfig
from .motion import POSE_COLUMNS, centred_mean
from .schedule import Noise

Sample = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Makes a window of motion; see `lmdm.Sampler`."""


class MotionStream:
    """The motion of one speech.

    Args:
        sample: makes a window.
        conditions: makes condition rows.
        source: the motion vector ``[1, 265]`` of the character at rest.
        noise: see `schedule.Noise`; its tensors may lie on the CPU.
        bounds: lower and upper bounds of the motion vector, ``[2, 265]``.
        warm_up: live only: features of silence, ``[overlap, 1024]``.

    Attributes:
        windows: how many were made.
        first: live only: the first frame ``[1, 265]`` of the window of silence, which motion is relative to; None
            before that window is made.
    """

    def __init__(
        self,
        sample: Sample,
        conditions: Conditions,
        source: Tensor,
        config: WindowConfig,
        noise: Noise,
        bounds: Tensor | None = None,
        warm_up: Tensor | None = None,
    ):
        self.config, self._sample, self._conditions = config, sample, conditions
        self._source = self._before = source
        self._noise, self._bounds = noise, bounds
        self.first: Tensor | None = None
        self._steps_noise: Tensor | None = None
        self._joined: Tensor | None = None  # the last frames of the motion
        self._length = 0  # frames of the motion so far
        self.windows = 0
        self._given = 0  # frames handed to the smoother
        self._rows: Tensor | None = None  # condition rows that the next window starts with
        self._count = 0  # rows that came
        self._last_speech: Tensor | None = None
        self._smoother = _Smoother(1 if config.live else config.smoothing)
        if config.live:
            if warm_up is None or len(warm_up) != config.overlap:
                raise ValueError(f"A live motion starts with {config.overlap} frames of silence.")
            self._given = WINDOW - config.fused
            self._append(warm_up)

    def push(self, speech: Tensor) -> Iterator[Tensor]:
        """Go on with features ``[n, 1024]``; gives motion vectors ``[m, 265]`` per window that they complete."""
        self._append(speech)
        while len(self._rows) >= WINDOW:
            self._run(self._rows[:WINDOW])
            self._rows = self._rows[self.config.stride :]
            yield from self._hand_out(self._length - self.config.fused)

    def finish(self) -> Iterator[Tensor]:
        """The rest of the motion, when all speech was pushed."""
        warm = self.config.overlap if self.config.live else 0
        if self._count == warm:
            return
        while len(self._rows) > 0:
            left = len(self._rows)
            self._run(self._filled())
            if self.config.live:
                end = self._count if self.config.exact_length else self._given + left
                yield from self._hand_out(min(end, self._length), last=True)
                return
            self._rows = self._rows[self.config.stride :]
            last = not len(self._rows)
            end = self._count if last else min(self._count, self._length - self.config.fused)
            yield from self._hand_out(end, last)

    def _append(self, speech: Tensor) -> None:
        if not len(speech):
            return
        rows = self._conditions(speech, self._next_frame())
        self._rows = rows if self._rows is None else torch.cat([self._rows, rows])
        self._count += len(speech)
        self._last_speech = speech[-1:]

    def _next_frame(self) -> int:
        return self._count - (self.config.overlap if self.config.live else 0)

    def _filled(self) -> Tensor:
        """The last window's rows ``[80, 1103]``: its last one is repeated, in a live motion its speech only."""
        missing = WINDOW - len(self._rows)
        if self.config.live:
            rows = self._conditions(self._last_speech.expand(missing, -1), self._next_frame())
        else:
            rows = self._rows[-1:].expand(missing, -1)
        return torch.cat([self._rows, rows])

    def _run(self, rows: Tensor) -> None:
        """Make the next window and join it to the motion."""
        config = self.config
        window = self._sample(*self._noises(rows), self._before, rows[None])[0]
        if self._joined is None:
            joined = _smooth_pose(window, config.smoothing)
            if config.live:
                self.first = self._bounded(joined[:1])
            self._length = WINDOW
        else:
            joined = _join(self._joined[-WINDOW:], window, config)
            self._length += config.stride
        self._joined = joined
        self.windows += 1
        before = joined[len(joined) - config.overlap - 1][None]
        if config.restart_every and self.windows % config.restart_every == 0:
            kept, (first, end) = before, config.kept or (0, 0)
            before = self._source.clone()
            before[:, first:end] = kept[:, first:end]
        self._before = before

    def _noises(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Noise of the start ``[1, 80, 265]`` and of the steps ``[steps - 1, 80, 265]``."""
        frame = (WINDOW, self._source.shape[-1])
        start = send(self._noise("start", self.windows, (1, *frame)), like.device)
        if self._steps_noise is None or self.config.fresh_noise:
            noises = self._noise("steps", self.windows, (self.config.steps - 1, *frame))
            self._steps_noise = send(noises, like.device)
        return start, self._steps_noise

    def _hand_out(self, end: int, last: bool = False) -> Iterator[Tensor]:
        """Frames up to number ``end``, which will not change any more."""
        start = self._length - len(self._joined)
        frames = self._joined[self._given - start : max(end, self._given) - start]
        self._given = max(end, self._given)
        frames = self._smoother.push(frames, last)
        if len(frames):
            yield self._bounded(frames)

    def _bounded(self, vectors: Tensor) -> Tensor:
        return vectors if self._bounds is None else vectors.clamp(*self._bounds.unbind(0))


class _Smoother:
    """The centred mean over the pose of a motion that comes in parts; it is ``frames // 2`` frames behind."""

    def __init__(self, frames: int):
        self._frames, self._reach = frames, frames // 2
        self._seen: Tensor | None = None
        self._done = 0  # frames of those seen that were given

    def push(self, vectors: Tensor, last: bool) -> Tensor:
        """Vectors ``[m, 265]`` whose neighbours are known, of vectors ``[n, 265]`` that follow those before."""
        seen = vectors if self._seen is None else torch.cat([self._seen, vectors])
        ready = max(self._done, len(seen) if last else len(seen) - self._reach)
        smooth = _smooth_pose(seen, self._frames)[self._done : ready]
        behind = max(0, ready - self._reach)
        self._seen, self._done = seen[behind:], ready - behind
        return smooth


def _smooth_pose(vectors: Tensor, frames: int) -> Tensor:
    if frames <= 1 or not len(vectors):
        return vectors
    pose, expression = vectors[:, :POSE_COLUMNS], vectors[:, POSE_COLUMNS:]
    return torch.cat([centred_mean(pose, frames), expression], 1)


def _join(motion: Tensor, window: Tensor, config: WindowConfig) -> Tensor:
    """The motion ``[80, 265]`` so far and what a window ``[80, 265]`` adds: ``[80 + stride, 265]``."""
    fused, stride = config.fused, config.stride
    fade = torch.arange(fused, device=window.device)[:, None] / fused
    own = window[WINDOW - stride - fused : WINDOW - stride]
    both = motion[-fused:] * (1 - fade) + own * fade
    joined = torch.cat([motion[:-fused], both, window[WINDOW - stride :]])
    smooth = _smooth_pose(joined, config.smoothing)
    seam = slice(len(joined) - stride - fused, len(joined) - stride + 1)
    joined[seam] = smooth[seam]
    return joined
