"""Speech that arrives while a video is made of it, with silence where none has arrived."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from .audio import Resampler

PATIENCE = 0.2
"""Seconds without new sound after which a block in the middle of speech is filled up with silence."""
KEPT_SECONDS = 4.0
"""Seconds of spoken sound that can still be read."""
KEPT_PLACES = 1024
"""Blocks of which it is known which speech they hold."""


class Closed(Exception):
    """The video has ended, or its end was announced: nothing more is taken."""


class Full(Exception):
    """More sound than is kept waiting; ``ever`` tells whether it would fit when nothing waits."""

    def __init__(self, message: str, ever: bool) -> None:
        super().__init__(message)
        self.ever = ever


class SpeechFeed:
    """Mono sound at ``rate`` that some threads write and one takes, block by block; silence when nothing is there.

    Speech is taken as soon as there is enough of it. Silence is taken when all earlier sound has been heard, that is
    at the pace of real time, so that speech which arrives is heard after one block at most.

    The feed is also the sound of the video: ``read`` gives sound that was taken, and ``ready`` says how much of it is
    final.

    Args:
        rate: samples per second.
        limit_seconds: most seconds of speech that may wait to be spoken.
        ahead_seconds: delay with which speech is taken where nothing has to wait for it, so that its taker can look
            ahead.
        lead_seconds: how far the video of speech that goes on may run ahead of what is heard. Its beginning is taken at
            once. Where there is a limit, speech that was taken last may be called off too.
        clock: seconds, for tests.

    Its taker says in ``moods`` which there are, and ``mood`` is the one that was asked for with the sound that was
    taken last; empty: none was. Its maker may use ``owner`` to tell the feed's run from others, and ``wanted`` to say
    whether that run goes on: one that fails before it takes anything does not close the feed. ``direct``: pages are to
    be sent each frame of its video when it is due, where that can be done, and not a growing file.
    """

    channels = 1

    def __init__(
        self,
        rate: int,
        limit_seconds: float = 300.0,
        ahead_seconds: float = 0.0,
        lead_seconds: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ahead, self._lead = round(ahead_seconds * rate), lead_seconds
        self.rate, self.limit_seconds, self._clock = rate, limit_seconds, clock
        self.owner: str | None = None
        self.wanted: Callable[[], bool] = lambda: True
        self.moods: tuple[str, ...] = ()
        self.mood = ""
        self.direct = False
        self._changes: list[tuple[int, str]] = []  # samples that are taken before, and the mood
        self._changed = threading.Condition()
        self._waiting = torch.zeros(0)
        self._converter: tuple[int, Resampler] | None = None
        self._arrived = float("-inf")
        self._heard_until = float("-inf")
        self._speaking = False
        self._ended = self._closing = self._begun = self.closed = False
        self._spoken, self._spoken_start = torch.zeros(0), 0
        self._open = 0  # samples at its end that can be taken back,
        self._open_speech = False  # and are not all silence
        self._goes_on: float | None = 0.0
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._taken = 0
        self._places: deque[tuple[int, int, int]] = deque(
            maxlen=KEPT_PLACES
        )  # in the video, in all speech, samples

    # For writers.

    def write(self, samples: Tensor, rate: int, replace: bool = False, mood: str = "") -> None:
        """Append float samples [S] at their own rate; ``replace``: in place of all that waits, and of the speech that
        was taken last if that can be taken back.

        ``mood``: one of ``moods``, which begins with these samples and lasts until another one does.

        Nothing is taken or dropped when it raises.

        Raises:
            ValueError: there is no such mood.
            Full: too much would wait.
            Closed: the end was announced.
        """
        with self._changed:
            if self._ended:
                raise Closed("This speech has ended.")
            self._check_mood(mood)
            waiting = 0.0 if replace else self.waiting_seconds
            seconds = len(samples) / rate
            if waiting + seconds > self.limit_seconds:
                raise Full(
                    f"{waiting:.1f} s are waiting to be spoken and {seconds:.1f} s more would exceed "
                    f"{self.limit_seconds:g} s; send them later or in smaller pieces.",
                    ever=seconds <= self.limit_seconds,
                )
            if replace:
                self._waiting, self._converter = self._waiting[:0], None
                self._changes.clear()
                self._arrived = float("-inf")
                self._goes_on = None if self._open_speech else self.spoken_seconds
            if mood:
                self._changes.append((len(self._waiting), mood))
            arrived = self._convert(samples.float(), rate)
            self._waiting = torch.cat((self._waiting, arrived))
            self._count += len(arrived)
            self._sum += arrived.double().sum().item()
            self._squares += arrived.double().square().sum().item()
            if len(samples):
                self._arrived = self._clock()
            self._changed.notify_all()

    def end(self) -> None:
        """Announce the end: the waiting speech is spoken, then the video ends."""
        with self._changed:
            if not self._ended and self._converter is not None:
                self._waiting = torch.cat((self._waiting, self._convert(None, self._converter[0])))
            self._ended = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Announce the end, and drop the waiting speech."""
        with self._changed:
            self._waiting, self._ended = self._waiting[:0], True

    @property
    def ended(self) -> bool:
        """Whether nothing more is taken."""
        return self._ended

    @property
    def waiting_seconds(self) -> float:
        """Seconds of speech that wait to be spoken."""
        return len(self._waiting) / self.rate

    @property
    def spoken_seconds(self) -> float:
        """Length of the video's sound so far."""
        return (self._spoken_start + len(self._spoken)) / self.rate

    @property
    def written(self) -> int:
        """How many samples of speech were taken or wait: the number of the next one that is written."""
        with self._changed:
            return self._taken + len(self._waiting)

    @property
    def taken(self) -> int:
        """How many samples of speech were taken, without the silence between."""
        return self._taken

    @property
    def heard_seconds(self) -> float:
        """How far the video is where it is shown as it is made, at the pace of real time."""
        with self._changed:
            return self.spoken_seconds - max(0.0, self._heard_until - self._clock())

    def taken_before(self, seconds: float) -> int:
        """How many samples of speech the video holds before a position."""
        with self._changed:
            position = round(seconds * self.rate)
            for start, first, count in reversed(self._places):
                if start < position:
                    return first + min(count, position - start)
            return self._places[0][1] if self._places else 0

    def place_of(self, sample: int) -> float | None:
        """Where a sample of speech is in the video, in seconds; None where it was not taken or is long past."""
        with self._changed:
            for start, first, count in reversed(self._places):
                if first <= sample < first + count:
                    return (start + sample - first) / self.rate
            return None

    # For the one taker.

    def begin(self) -> None:
        """To be called before the first sound is taken; RuntimeError when somebody has begun already."""
        with self._changed:
            if self._begun:
                raise RuntimeError(
                    "Run the workflow again to begin anew: live speech is over once it was heard."
                )
            self._begun = True

    def take(self, size: int) -> Tensor | float | None:
        """The next ``size`` samples; or the seconds after which to ask again, unless something is written before; or
        None at the end. The last samples are silence, so that the mouth closes."""
        with self._changed:
            now = self._clock()
            if self._goes_on is None:  # too late to take it back: the block was made
                self._goes_on = self.spoken_seconds
            if self._closing:
                return None
            self._heard_until = max(now, self._heard_until)
            waiting, early = len(self._waiting), self._heard_until - now
            if self._speaking and early > self._lead:
                return early - self._lead
            patience, offset = self._arrived + PATIENCE - now, 0
            if waiting >= size + self._ahead or (waiting >= size and (self._ended or early <= 0)):
                used, self._speaking = size, True
                block = self._waiting[:size]
            elif self._ended:
                used, self._closing = waiting, waiting == 0
                block = pad(self._waiting, (0, size - used))
            elif early > 0:
                return early
            elif self._speaking and patience > 0:
                return patience
            elif self._speaking:
                used, self._speaking = waiting, False
                block = pad(self._waiting, (0, size - used))
            else:
                # Speech that sets in ends with the block, so that what follows it joins on.
                used = max(0, waiting - self._ahead) if patience > 0 else waiting
                self._speaking = used > 0
                offset = size - used
                block = pad(self._waiting[:used], (offset, 0))
            if used:
                start = self._spoken_start + len(self._spoken) + offset
                self._places.append((start, self._taken, used))
                self._taken += used
            revocable = not self._ended and (not used or self._lead < float("inf"))
            self._open, self._open_speech = size if revocable else 0, revocable and used > 0
            self._waiting = self._waiting[used:]
            self._change_mood(used)
            self._heard_until += size / self.rate
            self._keep(block)
            return block

    @property
    def revocable(self) -> bool:
        """Whether what was taken last may have to be taken back."""
        return self._open > 0

    @property
    def goes_on(self) -> float | None:
        """Where in the video something else follows the speech that was last replaced, in seconds; None while that is
        not known, because its last block may be taken back or not."""
        return self._goes_on

    def take_back(self) -> bool:
        """Take back what was taken last, where it is speech that was called off since, or silence for which speech has
        arrived that is heard sooner in its place than behind it: more of it than time has passed. `take` gives that
        block anew then.

        To be asked only while nobody has seen the block.
        """
        with self._changed:
            taken_at = self._heard_until - self._open / self.rate
            if self._open_speech:
                void = self._goes_on is None
            else:
                speech = len(self._waiting) - self._ahead
                void = self._open > 0 and speech > (self._clock() - taken_at) * self.rate
            if not void:
                return False
            self._spoken = self._spoken[: -self._open]
            if self._open_speech:  # its samples keep their numbers, which are in no place of the video now
                self._places.pop()
                self._speaking, self._goes_on = False, self.spoken_seconds
            self._heard_until, self._open, self._open_speech = taken_at, 0, False
            return True

    def wait(self, seconds: float) -> None:
        """Sleep until something is written, at most ``seconds``."""
        with self._changed:
            self._changed.wait(seconds)

    def peek(self, size: int) -> Tensor:
        """At most ``size`` of the samples that wait."""
        with self._changed:
            return self._waiting[:size]

    def statistics(self) -> tuple[float, float]:
        """Mean and variance of all speech that has arrived."""
        with self._changed:
            count = max(1, self._count)
            mean = self._sum / count
            return mean, max(0.0, self._squares / count - mean**2)

    def close(self) -> None:
        """Tell writers that the video has ended."""
        self.finish()
        self.closed = True

    # For the video's sound.

    @property
    def ready(self) -> float:
        """Samples that are final, whoever asks: all but those that can be taken back. All of them at the end, after
        which there is silence."""
        return float("inf") if self._closing else self._spoken_start + len(self._spoken) - self._open

    def read(self, start: int, stop: int) -> Tensor:
        """Samples ``start`` to ``stop`` of the sound that was taken, [1, S], with silence behind it; LookupError when
        they are not kept any more."""
        with self._changed:
            if start < self._spoken_start:
                raise LookupError("This sound was live: it can be read only once.")
            window = self._spoken[start - self._spoken_start : stop - self._spoken_start]
            return pad(window, (0, stop - start - len(window)))[None]

    def _check_mood(self, mood: str) -> None:
        if mood and not self.moods:
            raise ValueError(
                "Connect LiveAvatar Mood to the sampler, or try again once the video has begun: there are no moods."
            )
        if mood and mood not in self.moods:
            raise ValueError(f"Choose a mood of {', '.join(self.moods)}.")

    def _change_mood(self, taken: int) -> None:
        """Follow the moods that begin within the next ``taken`` samples, or at once where none waits before them."""
        reached = max(taken, 1)
        for place, mood in self._changes:
            if place < reached:
                self.mood = mood
        self._changes = [(place - taken, mood) for place, mood in self._changes if place >= reached]

    def _keep(self, block: Tensor) -> None:
        spoken = torch.cat((self._spoken, block))
        extra = max(0, len(spoken) - round(KEPT_SECONDS * self.rate))
        self._spoken, self._spoken_start = spoken[extra:].clone(), self._spoken_start + extra

    def _convert(self, samples: Tensor | None, rate: int) -> Tensor:
        """Samples at our rate; None brings out the samples that the converter has kept back."""
        if self._converter is None or self._converter[0] != rate:
            self._converter = rate, Resampler(rate, self.rate)
        return self._converter[1](samples)


feeds: WeakValueDictionary[str, SpeechFeed] = WeakValueDictionary()
"""The feeds that can be written to from outside, by their ids."""
