"""The sound of one answer in the feed: what of it was heard, and how it is taken out and put in again."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..media.audio import Resampler
from ..media.speech_feed import SpeechFeed

SECONDS_PER_LETTER = 0.06
"""About how long a sentence becomes whose sound is not complete."""


@dataclass
class Sentence:
    """A sentence, how many of its samples were heard before it was last put in, and the rest of them."""

    text: str
    mood: str = ""
    complete: bool = False
    heard: int = 0
    rest: list[Tensor] = field(default_factory=list)
    first: int | None = None
    """The number that the feed gave to the first sample of the rest."""

    @property
    def waiting(self) -> int:
        """Samples of the rest."""
        return sum(map(len, self.rest))

    def heard_before(self, reached: int) -> int:
        """Samples of the rest that were heard once the feed has given all before the number ``reached``."""
        return 0 if self.first is None else min(max(0, reached - self.first), self.waiting)


class Spoken:
    """The sentences of an answer, as sound in ``feed``.

    Positions of the video (``played``) are seconds of what has been shown.
    """

    def __init__(self, feed: SpeechFeed) -> None:
        self._feed = feed
        self._sentences: list[Sentence] = []

    @property
    def begun(self) -> bool:
        """Whether there was any sound."""
        return bool(self._sentences)

    @property
    def first(self) -> int | None:
        """The number of the first sample of words that is in the feed or was taken from it."""
        found = (sentence.first for sentence in self._sentences if sentence.text)
        return next((first for first in found if first is not None), None)

    @property
    def finished(self) -> bool:
        """Whether the last sentence is complete."""
        return self.begun and self._sentences[-1].complete

    @property
    def heard_samples(self) -> int:
        """How many samples were heard before the rest was taken out."""
        return sum(sentence.heard for sentence in self._sentences)

    def begin(self, text: str, mood: str = "") -> None:
        """What is written from now on is the sound of this sentence; an empty text is sound without words.

        ``mood``: the person's from this sentence on, if the video has it.
        """
        self._sentences.append(Sentence(text, mood if mood in self._feed.moods else ""))
        self._resampler: tuple[int, Resampler] | None = None

    def write(self, samples: Tensor, rate: int) -> None:
        """Add samples [S] of the sentence."""
        if self._resampler is None:
            self._resampler = rate, Resampler(rate, self._feed.rate)
        self._put(self._sentences[-1], self._resampler[1](samples))

    def complete(self) -> None:
        """The sentence has no more sound."""
        if self._resampler is not None:
            self._put(self._sentences[-1], self._resampler[1](None))
        self._sentences[-1].complete = True

    def take_out(self, played: float) -> None:
        """Take what was not heard out of the feed, and keep it."""
        reached = self._feed.taken_before(played)
        for sentence in self._sentences:
            if heard := sentence.heard_before(reached):
                sentence.rest = [torch.cat(sentence.rest)[heard:]]
                sentence.heard += heard
            sentence.first = None
        self._feed.write(torch.zeros(0), self._feed.rate, replace=True)

    def put_in(self) -> None:
        """Let what was taken out be spoken after all."""
        for sentence in self._sentences:
            rest, sentence.rest, sentence.first = sentence.rest, [], None
            for samples in rest:
                self._put(sentence, samples)

    def heard_text(self, played: float) -> str:
        """The words that were heard: a sentence of which a part was heard is cut where that part ends."""
        reached = self._feed.taken_before(played)
        said = []
        for sentence in self._sentences:
            heard = sentence.heard + sentence.heard_before(reached)
            total = sentence.heard + sentence.waiting
            if not sentence.complete:
                total = max(total, round(len(sentence.text) * SECONDS_PER_LETTER * self._feed.rate))
            said.append(_beginning(sentence.text, heard / total if total else 0.0))
        return " ".join(filter(None, said))

    def any_heard(self, played: float) -> bool:
        """Whether a sample was heard."""
        reached = self._feed.taken_before(played)
        return any(sentence.heard or sentence.heard_before(reached) for sentence in self._sentences)

    def all_heard(self, played: float) -> bool:
        """Whether nothing of what was put in is still to be heard."""
        reached = self._feed.taken_before(played)
        return all(sentence.heard_before(reached) == sentence.waiting for sentence in self._sentences)

    def _put(self, sentence: Sentence, samples: Tensor) -> None:
        if not len(samples):
            return
        number = self._feed.written
        self._feed.write(samples, self._feed.rate, mood=sentence.mood if sentence.first is None else "")
        sentence.rest.append(samples)
        if sentence.first is None:
            sentence.first = number


def _beginning(text: str, part: float) -> str:
    """The whole words in the first ``part`` of a text; letters where it has no spaces."""
    if part >= 0.98:
        return text
    words = text.split()
    if len(words) > 1:
        return " ".join(words[: int(len(words) * part)])
    return text[: int(len(text) * part)] if not text.isascii() else ""
