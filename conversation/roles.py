"""What a conversation needs of others: ears, a mind and a voice, each on a server or in this process.

All of them are asynchronous, and a cancelled call stops its work at once. They raise `ServiceError`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

EARS_RATE = 16_000
"""Samples per second of what ears are given."""


class ServiceError(RuntimeError):
    """A service failed: one sentence, with what to do about it."""


@dataclass(frozen=True)
class Line:
    """A line of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Heard:
    """What ears have understood; ``language`` as they name it, or empty."""

    text: str
    language: str = ""


class Ears(Protocol):
    """Speech to text."""

    async def transcribe(self, sound: Tensor) -> Heard:
        """The words of float32 samples [S] at ``EARS_RATE``."""
        ...

    async def probe(self) -> None:
        """Raise where it is certain that `transcribe` would fail."""
        ...


class Mind(Protocol):
    """A language model."""

    def answer(self, lines: Sequence[Line]) -> AsyncGenerator[str, None]:
        """The answer to the last line, in pieces of any length."""
        ...

    async def probe(self) -> None:
        """Raise where it is certain that `answer` would fail."""
        ...


class Voice(Protocol):
    """Text to speech."""

    def speak(self, text: str) -> AsyncGenerator[tuple[Tensor, int], None]:
        """The sound of a sentence: float32 samples [S] and their rate, in pieces as they are made."""
        ...

    async def probe(self) -> None:
        """Raise where it is certain that `speak` would fail."""
        ...
