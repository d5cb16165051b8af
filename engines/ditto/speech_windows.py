"""Speech features of 25 frames per second from sound that comes bit by bit, by short windows that each stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SAMPLES_PER_FRAME

EXTRA_SAMPLES = 80
"""Samples that the network's convolutions need beyond whole rows."""
ROWS_PER_FRAME = 2

Encode = Callable[[Tensor], Tensor]
"""Sound ``[1, samples]`` of 16 kHz to rows ``[1, (samples - 80) // 320, 1024]``."""


@dataclass(frozen=True)
class SpeechWindow:
    """Frames that the network hears at once: those before, those whose features are kept, those after."""

    past: int = 3
    current: int = 5
    future: int = 2

    @property
    def samples(self) -> int:
        return (self.past + self.current + self.future) * SAMPLES_PER_FRAME + EXTRA_SAMPLES

    @property
    def stride(self) -> int:
        """Samples from one window to the next."""
        return self.current * SAMPLES_PER_FRAME

    def features(self, encode: Encode, sound: Tensor) -> Tensor:
        """Features ``[current, 1024]`` of one window ``[samples]``: the kept rows, neighbours averaged."""
        rows = encode(sound[None])[0]
        after = ROWS_PER_FRAME * self.future
        kept = rows[len(rows) - after - ROWS_PER_FRAME * self.current : len(rows) - after]
        return kept.unflatten(0, (-1, ROWS_PER_FRAME)).mean(1)


def frame_count(samples: int) -> int:
    """Video frames of so many samples of 16 kHz."""
    return -(-samples // SAMPLES_PER_FRAME)


class SpeechStream:
    """The features of one speech, window after window.

    Args:
        encode: the speech network.
        late: the reference's live features are 80 samples (5 ms) later than those of its recordings, and go on to
            the end of the window in which the sound ends. Without it they are the same, end with the sound and need 80
            samples less.
    """

    def __init__(self, encode: Encode, window: SpeechWindow | None = None, late: bool = False):
        self._encode, self._window, self._late = encode, window or SpeechWindow(), late
        lead = self._window.past * SAMPLES_PER_FRAME + (0 if late else EXTRA_SAMPLES)
        self._lead = lead
        self._waiting = torch.zeros(lead)  # sound from the next window's start on
        self._samples = 0
        self._frames = 0

    def push(self, sound: Tensor) -> Iterator[Tensor]:
        """Go on with samples ``[n]`` of 16 kHz; gives features ``[current, 1024]`` per window that is complete."""
        self._samples += len(sound)
        self._waiting = torch.cat([self._waiting, sound.to(self._waiting)])
        while len(self._waiting) >= self._window.samples:
            yield self._next()

    def finish(self) -> Iterator[Tensor]:
        """The rest of the features, when all sound was pushed; silence follows it."""
        total = frame_count(self._samples)
        if self._late:
            total = -(-(self._samples + self._lead) // self._window.stride) * self._window.current
        while self._frames < total:
            missing = max(0, self._window.samples - len(self._waiting))
            self._waiting = torch.cat([self._waiting, torch.zeros(missing)])
            before = self._frames
            yield self._next()[: total - before]

    def _next(self) -> Tensor:
        window = self._window
        features = window.features(self._encode, self._waiting[: window.samples])
        self._waiting = self._waiting[window.stride :]
        self._frames += window.current
        return features


def features_of(encode: Encode, sound: Tensor, window: SpeechWindow | None = None) -> Tensor:
    """All features ``[frames, 1024]`` of samples ``[n]``."""
    stream = SpeechStream(encode, window)
    return torch.cat([*stream.push(sound), *stream.finish()])


def silence(encode: Encode, frames: int) -> Tensor:
    """Features ``[frames, 1024]`` of silence, which a live motion starts with."""
    return features_of(encode, torch.zeros(frames * SAMPLES_PER_FRAME))
