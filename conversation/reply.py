"""An answer on its way, from the first guess that the person has finished until it was heard."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from ..media.speech_feed import SpeechFeed
from .roles import Heard, Line
from .sentences import has_words
from .spoken import Spoken
from .timings import Timings

NOISES = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|[♪♫]")
"""How transcripts write what is no word: [BLANK_AUDIO], (coughs), *laughs*."""
HUMS = {
    "m",
    "mm",
    "mmm",
    "hm",
    "hmm",
    "mhm",
    "uh",
    "um",
    "uhuh",
    "uhhuh",
    "ah",
    "oh",
    "ajá",
    "嗯",
    "啊",
    "哦",
    "唔",
}
"""What a listener says without wanting the word."""


def words_in(transcript: str) -> str:
    """What was said in words, or nothing."""
    text = " ".join(NOISES.sub(" ", transcript).split())
    return text if has_words(text) else ""


def only_hums(text: str) -> bool:
    """Whether a text is the humming of a listener."""
    words = ("".join(filter(str.isalnum, word)) for word in text.lower().split())
    return all(word in HUMS for word in words if word)


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a question: its words, typed or being understood."""

    transcript: asyncio.Future[Heard]
    typed: bool = False


class Reply:
    """One answer.

    Args:
        turn: its number.
        pieces: the question: a turn that was taken back comes before its continuation.
    """

    def __init__(self, turn: int, pieces: tuple[Piece, ...], feed: SpeechFeed, timings: Timings) -> None:
        self.turn, self.pieces, self.timings = turn, pieces, timings
        self.spoken = Spoken(feed)
        self.question = ""
        """The words of all pieces, once they are known."""
        self.understood = False
        """Whether the last piece has words."""
        self.confirmed = asyncio.Event()
        """The person has finished."""
        self.gate = asyncio.Event()
        """Open while the answer may be spoken."""
        self.silent = True
        """No word of it has become sound."""
        self.complete = False
        """Nothing more will be said."""
        self.held = self.taken_back = self.measured = False
        self.ended_at = 0.0
        self._kept: list[Line] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, task: asyncio.Task[None]) -> None:
        """A task that ends with the answer."""
        self._tasks = [known for known in self._tasks if not known.done()] + [task]

    def cancel(self) -> None:
        """Stop all work on the answer; what was said of it stays."""
        self.complete = True
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def hold(self, played: float, taken_back: bool) -> None:
        """Be silent for now."""
        self.held, self.taken_back = True, taken_back
        self.gate.clear()
        self.spoken.take_out(played)
        self._kept = self._lines(played)

    def release(self) -> None:
        """Go on where it was heard last."""
        self.held = self.taken_back = False
        self._kept = None
        self.spoken.put_in()
        self.gate.set()

    def lines(self, played: float) -> list[Line]:
        """What of question and answer belongs to the conversation: what was heard."""
        return self._lines(played) if self._kept is None else self._kept

    def _lines(self, played: float) -> list[Line]:
        said = [Line("user", self.question), Line("assistant", self.spoken.heard_text(played))]
        return [line for line in said if line.text]


def finished(value: Heard) -> asyncio.Future[Heard]:
    """A future with a value."""
    future: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
