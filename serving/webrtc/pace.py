"""What of a live video is shown when: its blocks at the pace of real time, from the moment they are there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TICKS = 50
"""Steps per second: as long as a packet of sound."""
AGAIN = TICKS
"""A frame that stays is given again after so many steps, for a viewer who has lost it."""
MOST_SECONDS = 3.0
"""Never so much waits to be shown: what is newer is shown instead."""
WINDOW = 2 * TICKS
"""Steps in which the least that waited is looked for,"""
SPARE = 3
"""and steps that may always wait."""
SKIP_EVERY = 5
"""Where more waits, a step of silence in so many is left out."""
QUIET = 0.003
"""Sound below this is silence, from which a piece can be taken without being heard."""


@dataclass(frozen=True)
class Step:
    """A fiftieth of a second.

    Attributes:
        sound: float32 [S].
        frame: uint8 [H, W, 3], shown from now on; None: the one before stays.
        seconds: how much of the video has been shown at its end.
        moving: whether the video goes on, or waits for its next block.
    """

    sound: Tensor
    frame: Tensor | None
    seconds: float
    moving: bool


class Pace:
    """Blocks go in as they are made, steps come out as they are due. Where no block is there in time, the last frame
    stays and there is silence; the time that this takes is caught up with where the sound is silent anyway.

    Args:
        fps: frames per second.
        rate: samples per second, a multiple of ``TICKS``.
        goes_on: before which second of the video the sound is void, since it was called off; None: all that there is.
    """

    def __init__(self, fps: float, rate: int, goes_on: Callable[[], float | None] = lambda: 0.0) -> None:
        if rate % TICKS:
            raise ValueError(f"Sound needs a rate that is a multiple of {TICKS}, not {rate}.")
        self._fps, self._rate, self._size, self._goes_on = fps, rate, rate // TICKS, goes_on
        self._lock = threading.Lock()
        self._blocks: deque[tuple[int, Tensor]] = deque()  # first frame, frames
        self._sound, self._sound_start = torch.zeros(0), 0
        self._frames = 0  # that have come
        self._at = 0  # samples that were shown
        self._shown = -1  # frame
        self._last: Tensor | None = None
        self._still = 0  # steps since a frame was given
        self._ahead: deque[int] = deque(maxlen=WINDOW)  # samples
        self._since_skip = 0
        self.watched = False

    @property
    def last(self) -> Tensor | None:
        """The frame that is shown; None before the first."""
        with self._lock:
            return self._last

    @property
    def waiting(self) -> float:
        """Seconds that wait to be shown."""
        with self._lock:
            return (self._end - self._at) / self._rate

    def put(self, frames: Tensor, sound: Tensor) -> None:
        """Add a block, uint8 [F, H, W, 3], and its sound [S]."""
        with self._lock:
            self._blocks.append((self._frames, frames))
            self._frames += len(frames)
            self._sound = torch.cat((self._sound, sound))
            if not self.watched:
                self._jump(self._end)
            elif self._end - self._at > MOST_SECONDS * self._rate:
                self._jump(self._end - len(sound))

    def watch(self, on: bool) -> None:
        """Somebody begins or ceases to watch: until then nothing waits."""
        with self._lock:
            self.watched = on
            self._still = AGAIN  # the frame that there is comes at once
            self._jump(self._end)

    def next(self) -> Step:
        """The step that is due now."""
        with self._lock:
            if self._end - self._at < self._size:
                return Step(torch.zeros(self._size), self._frame(None), self._at / self._rate, False)
            sound = self._take()
            self._since_skip += 1
            if self._late and sound.abs().max() < QUIET and self._end - self._at >= self._size:
                self._ahead = deque((ahead - self._size for ahead in self._ahead), maxlen=WINDOW)
                self._since_skip = 0
                sound = self._take()
            self._ahead.append(self._end - self._at)
            frame = self._frame(int((self._at - 1) * self._fps / self._rate))
            return Step(sound, frame, self._at / self._rate, True)

    @property
    def _end(self) -> int:
        return self._sound_start + len(self._sound)

    @property
    def _late(self) -> bool:
        """Whether more waits all the time than has to."""
        full = len(self._ahead) == WINDOW and self._since_skip >= SKIP_EVERY
        return full and min(self._ahead) > SPARE * self._size

    def _take(self) -> Tensor:
        """The next sound; what was called off is silent."""
        begun = self._at - self._sound_start
        sound = self._sound[begun : begun + self._size]
        self._at += self._size
        goes_on = self._goes_on()
        void = len(sound) if goes_on is None else round(goes_on * self._rate) - (self._at - self._size)
        if void <= 0:
            return sound
        return torch.cat((torch.zeros_like(sound[:void]), sound[void:]))

    def _frame(self, number: int | None) -> Tensor | None:
        """A frame, where it is another one than before, or has to be given again."""
        if number is not None and number > self._shown:
            self._last, self._shown, self._still = self._find(number), number, 0
            return self._last
        self._still += 1
        if self._still < AGAIN:
            return None
        self._still = 0
        return self._last

    def _find(self, number: int) -> Tensor:
        """A frame that waits; blocks before it, and their sound, are forgotten."""
        while len(self._blocks) > 1 and self._blocks[1][0] <= number:
            self._blocks.popleft()
        passed = self._at - self._sound_start
        if passed > self._rate:
            self._sound, self._sound_start = self._sound[passed:].clone(), self._at
        first, frames = self._blocks[0]
        return frames[min(number - first, len(frames) - 1)]

    def _jump(self, place: int) -> None:
        """Leave out what comes before a sample."""
        self._sound, self._sound_start = self._sound[place - self._sound_start :].clone(), place
        self._at = place
        self._ahead.clear()
        if self._blocks:
            self._shown = max(self._shown, min(int(place * self._fps / self._rate), self._frames) - 1)
            self._last = self._find(max(0, self._shown))
