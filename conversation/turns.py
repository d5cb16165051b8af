"""When a person speaks, pauses, and has finished: from the microphone's sound alone, whose samples are the clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..media.audio import Resampler
from .activity import WINDOW, Activity
from .roles import EARS_RATE

BEGINS, ENDS = 0.5, 0.35
"""Speech begins at this probability, and goes on above the lower one."""
BEGIN_WINDOWS = 2
"""Windows of speech in a row that make a beginning: a click is shorter."""
BEFORE_SECONDS = 0.3
"""Sound before the beginning that belongs to a turn."""
GUESS_SECONDS = 0.09
"""A pause so long, three windows, may be the end: work on the answer begins."""
LONGEST_TURN = 60.0
WINDOW_SECONDS = WINDOW / EARS_RATE

Finished = Callable[[Tensor], float]
"""How likely a turn is finished, from its sound [S] at ``EARS_RATE``: 0 to 1."""


@dataclass(frozen=True)
class Speaking:
    """Somebody speaks: the seconds of speech of this turn so far."""

    seconds: float


@dataclass(frozen=True)
class Paused:
    """The turn may be over: its sound so far [S] at ``EARS_RATE``."""

    sound: Tensor


@dataclass(frozen=True)
class Ended:
    """The turn is over: its sound [S], and the seconds of silence since the last speech in it."""

    sound: Tensor
    silence: float


Event = Speaking | Paused | Ended


class Turns:
    """Finds the turns in a person's sound.

    A turn ends after ``pause`` seconds of silence if ``finished`` finds it likely, and after ``longest_pause`` in any
    case; without ``finished`` only then.
    """

    def __init__(
        self,
        activity: Activity,
        rate: int,
        pause: float,
        longest_pause: float,
        finished: Finished | None = None,
    ) -> None:
        self._activity, self._finished = activity, finished
        self._pause, self._longest_pause = min(pause, longest_pause), longest_pause
        self._resample = Resampler(rate, EARS_RATE)
        self._left = torch.zeros(0)
        self.reset()

    def reset(self) -> None:
        """Drop the turn so far."""
        self._before: deque[Tensor] = deque(maxlen=round(BEFORE_SECONDS / WINDOW_SECONDS))
        self._turn: list[Tensor] = []
        self._speech = self._silence = self._in_a_row = 0
        self._paused = self._asked = False

    def hear(self, samples: Tensor) -> list[Event]:
        """What the next samples [S] at the microphone's rate tell."""
        events: list[Event] = []
        for window in self._windows(samples):
            events += self._window(window)
        return events

    def finish(self) -> Ended | None:
        """End the turn now, if anybody has spoken in it."""
        if not self._speech:
            self.reset()
            return None
        return self._end()

    def _windows(self, samples: Tensor) -> list[Tensor]:
        sound = torch.cat((self._left, self._resample(samples)))
        whole = len(sound) // WINDOW * WINDOW
        self._left = sound[whole:]
        return list(sound[:whole].split(WINDOW)) if whole else []

    def _window(self, window: Tensor) -> list[Event]:
        likely = self._activity(window)
        if not self._turn:
            return self._may_begin(window, likely)
        self._turn.append(window)
        if likely > ENDS:
            self._speech += 1
            self._silence = 0
            self._paused = self._asked = False
            if len(self._turn) * WINDOW_SECONDS >= LONGEST_TURN:
                return [self._end()]
            return [Speaking(self._speech * WINDOW_SECONDS)]
        self._silence += 1
        return self._pausing(self._silence * WINDOW_SECONDS)

    def _may_begin(self, window: Tensor, likely: float) -> list[Event]:
        self._in_a_row = self._in_a_row + 1 if likely >= BEGINS else 0
        self._before.append(window)
        if self._in_a_row < BEGIN_WINDOWS:
            return []
        self._turn = list(self._before)
        self._speech, self._silence = self._in_a_row, 0
        return [Speaking(self._speech * WINDOW_SECONDS)]

    def _pausing(self, silence: float) -> list[Event]:
        events: list[Event] = []
        if silence >= GUESS_SECONDS and not self._paused:
            self._paused = True
            events.append(Paused(torch.cat(self._turn)))
        if self._finished is not None and silence >= self._pause and not self._asked:
            self._asked = True
            if self._finished(torch.cat(self._turn)) >= 0.5:
                return [*events, self._end()]
        if silence >= self._longest_pause:
            events.append(self._end())
        return events

    def _end(self) -> Ended:
        ended = Ended(torch.cat(self._turn), self._silence * WINDOW_SECONDS)
        self.reset()
        return ended
