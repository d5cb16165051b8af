"""An answer that arrives letter by letter, cut into pieces that a voice can say: English, Spanish, Chinese.

A voice sounds best with whole sentences, and the first sound shall come early: the first piece ends at the first pause
of the text, all others are sentences.
"""

# ruff: noqa: RUF001  (the marks of other scripts are meant)

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

FIRST_LETTERS = 8
"""The first piece has so many letters at least."""
LONGEST = 240
"""A sentence of more letters is cut where it pauses."""
ABBREVIATIONS = {
    *("mr", "mrs", "ms", "dr", "prof", "st", "no", "vs", "etc", "e.g", "i.e", "approx"),
    *("sr", "sra", "srta", "ud", "uds", "pág", "núm", "p. ej", "ej"),
}
MOOD = re.compile(r"\[([a-z0-9_-]{1,40})\](?!\()")
THOUGHTS = ("<think>", "</think>")
CLOSING = re.escape("\"'”’»)]」』")
SENTENCE = re.compile(rf"[.!?…]+[{CLOSING}]*(?=\s)|[。！？]+[{CLOSING}]*|\n")
"""A mark of ASCII ends a sentence only before a space, so numbers, times and addresses stay whole."""
PAUSE = re.compile(rf"[.!?…,;:]+[{CLOSING}]*(?=\s)|[。！？，；：、]+[{CLOSING}]*|\n|\s[–—](?=\s)")
MARKUP = re.compile(
    r"```.*?(?:```|$)"  # code
    r"|\[[a-z_ -]{1,20}\](?!\()"  # a mood
    r"|!?\[(?P<name>[^\]]*)\]\([^)]*\)"  # a link keeps its name
    r"|https?://\S+"
    r"|^\s*(?:[-*•]|#+|>)\s+"
    r"|[*_`#~|]+"
    r"|[\U0001F000-\U0001FAFF\u2600-\u27BF\uFE0F\u200D]+",
    re.MULTILINE | re.DOTALL,
)


def spoken(text: str) -> str:
    """A text without what nobody says: markup, code, addresses, moods in brackets, pictographs."""
    return " ".join(MARKUP.sub(lambda found: found["name"] or "", text).split())


def has_words(text: str) -> bool:
    """Whether a text has letters or digits of any script."""
    return any(letter.isalnum() for letter in text)


class Sentences:
    """Takes the pieces of an answer and gives what is ready to be said.

    ``mood`` is the last word in brackets, as in [happy], up to the end of what was given last; empty: there was none.
    """

    def __init__(self) -> None:
        self.mood = ""
        self._text = ""
        self._first = True

    def push(self, piece: str) -> Iterator[str]:
        """The sentences that this piece completes."""
        self._text += piece
        while (end := self._end()) is not None:
            yield from self._cut(end)

    def rest(self) -> Iterator[str]:
        """What is left at the end of the answer."""
        yield from self._cut(len(self._text))

    def _cut(self, end: int) -> Iterator[str]:
        written, self._text = self._text[:end], self._text[end:].lstrip()
        if moods := MOOD.findall(written):
            self.mood = moods[-1]
        sentence = spoken(written)
        if has_words(sentence):
            self._first = False
            yield sentence

    def _end(self) -> int | None:
        """Where the next piece ends, or None while nobody knows."""
        if self._text.count("```") % 2:
            return None  # code is going on
        for found in (PAUSE if self._first else SENTENCE).finditer(self._text):
            before = self._text[: found.start()]
            if not self._ends(before, found[0]):
                continue
            if not self._first or sum(letter.isalnum() for letter in before) >= self._least(before):
                return found.end()
        if len(self._text) > LONGEST:
            pauses = [found.end() for found in PAUSE.finditer(self._text, 0, LONGEST)]
            return pauses[-1] if pauses else self._text.rfind(" ", 0, LONGEST) + 1 or LONGEST
        return None

    @staticmethod
    def _ends(before: str, mark: str) -> bool:
        if not mark.startswith(".") or mark.startswith(".."):
            return True
        word = re.split(r"[\s(¿¡]", before.lower())[-1]
        number = before.strip().isdigit()  # of a list
        return not (number or word in ABBREVIATIONS or (len(word) == 1 and word.isalpha()))

    @staticmethod
    def _least(before: str) -> int:
        # A sign of Chinese or Japanese is about as long as two letters.
        return FIRST_LETTERS if before.isascii() or before[:1] < "\u2e80" else FIRST_LETTERS // 2


async def sentences(
    pieces: AsyncGenerator[str, None], cutter: Sentences | None = None
) -> AsyncGenerator[str, None]:
    """The sentences of an answer as they are complete, without the model's thoughts. Closes ``pieces`` at its end.

    After each one ``cutter``, a new one where it is given, has its mood.
    """
    cutter, thoughts = cutter or Sentences(), Thoughts()
    async with aclosing(pieces):
        async for piece in pieces:
            for sentence in cutter.push(thoughts.without(piece)):
                yield sentence
    for sentence in (*cutter.push(thoughts.rest()), *cutter.rest()):
        yield sentence


class Thoughts:
    """Leaves out what a model writes between <think> and </think>."""

    def __init__(self) -> None:
        self._inside, self._held = False, ""

    def without(self, piece: str) -> str:
        """The next piece of text without thoughts; what may be the beginning of a mark is held back."""
        self._held += piece
        kept = ""
        while True:
            mark = THOUGHTS[self._inside]
            before, found, after = self._held.partition(mark)
            if not found:
                begun = next((n for n in range(len(mark) - 1, 0, -1) if before.endswith(mark[:n])), 0)
                before, self._held = before[: len(before) - begun], before[len(before) - begun :]
            kept += "" if self._inside else before
            if not found:
                return kept
            self._held, self._inside = after, not self._inside

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        return "" if self._inside else self._held
