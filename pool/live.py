"""Live sessions: what a person says on its way to the avatar, and the avatar's video on its way back."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from avatar.jobs.access import Refusal
from avatar.jobs.job import Job
from avatar.jobs.memory import Memory

from .line import Place

LIMIT_SECONDS = 300.0
"""Most speech that may wait to be spoken."""
PATIENCE_SECONDS = 5.0
"""An avatar's question for speech is answered within this time, also where there is none."""
BEGIN_SECONDS = 60.0
"""A session that nobody has begun by then is forgotten."""
MOST_UNBEGUN = 64
"""Sessions that have not begun."""
LOST = "Begin another session: the machine of this avatar was lost."
SOUND_BYTES = 256
"""What a sound takes besides its samples."""


@dataclass(frozen=True)
class Sound:
    """Speech for an avatar: float32 [S] and its rate; ``replace``: in place of what waits."""

    samples: np.ndarray
    rate: int
    replace: bool = False

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    @property
    def bytes(self) -> int:
        """What it takes of the memory."""
        return SOUND_BYTES + self.samples.nbytes


@dataclass
class Session:
    """One person with one avatar.

    Attributes:
        job, picture: what the avatar is.
        memory: where picture and speech count.
        begun: whether somebody watches it, who is the only one.
        over: nothing more is said or shown.
        place: in the line, once it was begun.
    """

    job: Job
    picture: bytes
    memory: Memory
    created: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    begun: bool = False
    over: bool = False
    place: Place | None = None
    _said: list[Sound | None] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _at_avatar: float = 0.0
    _told: float = 0.0
    _ended: bool = False

    @property
    def waiting_seconds(self) -> float:
        """About how much speech waits to be spoken, here and where the avatar is."""
        return self._at_avatar + sum(sound.seconds for sound in self._sounds())

    def say(self, sound: Sound) -> None:
        """Speech that the avatar says next; Refusal where too much waits, or after the end."""
        if self._ended or self.over:
            raise Refusal(410, "Begin another session: this one has ended.")
        waiting = 0.0 if sound.replace else self.waiting_seconds
        if waiting + sound.seconds > LIMIT_SECONDS:
            raise Refusal(
                429, f"Send it later: {waiting:.0f} s of speech wait, and at most {LIMIT_SECONDS:.0f} may."
            )
        if not sound.replace and not len(sound.samples):
            return
        self.memory.take(sound.bytes)
        if sound.replace:
            self._take()
            self._at_avatar = 0.0
        self._said.append(sound)
        self._arrived.set()

    def end(self) -> None:
        """No more comes: what waits is said, then the video ends."""
        if not self._ended:
            self._ended = True
            self._said.append(None)
            self._arrived.set()

    async def heard(self, at_avatar: float) -> list[Sound | None]:
        """What was said since the avatar last asked, None for the end; it tells how many seconds wait where it is."""
        self._at_avatar = at_avatar
        if not self._said:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), PATIENCE_SECONDS)
            except asyncio.TimeoutError:
                return []
        self._at_avatar += sum(sound.seconds for sound in self._sounds())
        return self._take()

    def close(self) -> None:
        """Nothing more is said or shown; said again, it changes nothing."""
        if not self.over:
            self.over = True
            self._take()
            self.memory.give(len(self.picture))

    def _sounds(self) -> list[Sound]:
        return [sound for sound in self._said if sound is not None]

    def _take(self) -> list[Sound | None]:
        """What was said and is here no more from now on."""
        self.memory.give(sum(sound.bytes for sound in self._sounds()))
        said, self._said = self._said, []
        return said


class Sessions:
    """The live sessions by their ids, which cannot be guessed."""

    def __init__(self, memory: Memory, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._clock = memory, clock
        self._known: dict[str, Session] = {}

    def check_room(self) -> None:
        """Refusal (503, with Retry-After) while too many were opened and not begun."""
        if len(self._known) - self.running() >= MOST_UNBEGUN:
            raise Refusal(
                503, "Ask again later: too many sessions were opened and not begun.", {"Retry-After": "60"}
            )

    def open(self, job: Job, picture: bytes) -> Session:
        """A new one, to be begun soon; Refusal where there is no room for it."""
        self.check_room()
        self._memory.take(len(picture))
        session = Session(job, picture, self._memory, self._clock())
        self._known[session.id] = session
        return session

    def forget_unbegun(self) -> None:
        """Close those that nobody has begun in time."""
        now = self._clock()
        for session in list(self._known.values()):
            if not session.begun and now - session.created >= BEGIN_SECONDS:
                self.close(session)

    def find(self, id_: str) -> Session | None:
        """A session by its id."""
        return self._known.get(id_)

    def running(self) -> int:
        """How many have begun."""
        return sum(session.begun for session in self._known.values())

    def close(self, session: Session) -> None:
        """Forget a session."""
        session.close()
        self._known.pop(session.id, None)
