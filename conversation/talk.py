"""A conversation as its pages see it: what they send, what they are told, and the thread in which it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from ..media.speech_feed import SpeechFeed
from .connections import close_connections
from .timings import Timings

RATE = 24_000
"""Samples per second of the sound that pages send."""
LEAD_SECONDS = 0.1
"""How far a video may run ahead of what is heard: an interruption cannot take back what is made."""
WATCH_SECONDS = 0.02
"""How often the conversation looks at its feed."""
LOOK_SECONDS = 0.2
"""How often a conversation looks whether its video goes on."""
BACKLOG = 500
"""Messages that may wait to be heard: ten seconds of sound in pieces of 20 ms."""
FRESH_SECONDS = 1.0
"""A page's position goes on by itself for so long."""
REMEMBERED = 60
"""Lines of the transcript that a page is told when it joins."""


@dataclass(frozen=True)
class Sound:
    """A piece of the microphone's sound: float32 [S] at ``RATE``."""

    samples: Tensor


@dataclass(frozen=True)
class Typed:
    """A typed message."""

    text: str


@dataclass(frozen=True)
class Held:
    """Push to talk: the key went down or up."""

    held: bool


@dataclass(frozen=True)
class Played:
    """The position of the video, in seconds, that a page has shown."""

    seconds: float


@dataclass(frozen=True)
class Hush:
    """Stop what is being said; the conversation goes on."""


@dataclass(frozen=True)
class End:
    """Let the video end."""


def talk_feed(clock: Callable[[], float] = time.monotonic) -> SpeechFeed:
    """A feed for the answers of a conversation."""
    return SpeechFeed(RATE, lead_seconds=LEAD_SECONDS, clock=clock)


Message = Sound | Typed | Held | Played | Hush | End
Tell = Callable[[dict[str, Any]], None]


class Talk:
    """What conversations of every kind share. A subclass brings `converse`.

    It has a thread with an event loop of its own: nearly all of it is waiting for the network, where a cancelled
    task ends its request at once, and neither the host's loop nor the thread that makes the video waits for it.

    Args:
        feed: takes the answers as sound; the conversation ends when the feed is closed or no longer wanted.
        on_error: is told each error, in one sentence, beside the pages.
    """

    hears = True
    """Whether the microphone is listened to."""
    push_to_talk = False
    barge_in = True
    """Whether a person may interrupt."""

    def __init__(self, feed: SpeechFeed, on_error: Callable[[str], None] = lambda text: None) -> None:
        self.feed, self._on_error = feed, on_error
        self._lock = threading.Lock()
        self._pages: list[Tell] = []
        self._transcript: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._state: dict[str, Any] = {"type": "state", "state": "waiting"}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._backlog = 0
        self._shown: tuple[float, float] | None = None
        self._following: asyncio.Task[None] | None = None
        self.held_key = False  # of push to talk
        self._ducked = False
        self.over = False

    # For pages, from any thread.

    def join(self, tell: Tell) -> Callable[[], None]:
        """Tell a page all that happens from now on, after the transcript so far; the result lets it leave."""
        with self._lock:
            for message in (*self._transcript, self._state):
                tell(message)
            self._pages.append(tell)

        def leave() -> None:
            with self._lock, suppress(ValueError):
                self._pages.remove(tell)

        return leave

    def send(self, message: Message) -> bool:
        """Take a message; False where it is dropped, because too many wait or the conversation is over."""
        with self._lock:
            if self._loop is None or self.over or self._backlog >= BACKLOG:
                return False
            self._backlog += 1
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, message)
            return True

    # For the conversation itself.

    def start(self) -> None:
        """Begin in a thread of its own; messages are taken when this returns."""
        threading.Thread(target=lambda: asyncio.run(self.run()), name="conversation", daemon=True).start()
        self._begun.wait()

    async def run(self) -> None:
        """The whole conversation, until its video ends."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self._begun.set()
        talking = asyncio.create_task(self._converse())
        try:
            while not talking.done() and not self.feed.closed and self.feed.wanted():
                await asyncio.wait((talking,), timeout=LOOK_SECONDS)
        finally:
            talking.cancel()
            await asyncio.wait((talking,))
            await close_connections()
            with self._lock:
                self.over = True
            self.tell("end")

    async def _converse(self) -> None:
        try:
            await self.converse()
        except Exception as error:  # a fault of ours must not leave the avatar mute without a word
            self.error(f"Run the workflow again: the conversation has stopped ({error!r}).")
            raise

    async def converse(self) -> None:
        """Talk until cancelled."""
        raise NotImplementedError

    async def next_message(self) -> Message:
        """The next message of a page. Behind the end, what waits is said whatever the person does: only positions count
        then."""
        while True:
            message = await self._inbox.get()
            with self._lock:
                self._backlog -= 1
            if isinstance(message, Played) or not self.feed.ended:
                return message

    def tell(self, type_: str, **values: Any) -> None:
        """Tell all pages something; ``serving/talk.py`` lists what there is."""
        message = {"type": type_, **values}
        with self._lock:
            if type_ == "state":
                if message == self._state:
                    return
                self._state = message
            elif type_ == "said" or (type_ == "heard" and values["final"]):
                self._transcript.append(message)
            for page in self._pages:
                page(message)

    @staticmethod
    def now() -> float:
        """Seconds of the conversation's clock."""
        return asyncio.get_running_loop().time()

    def rest(self) -> None:
        """Tell the pages that nobody speaks."""
        listens = self.hears and (self.held_key or not self.push_to_talk)
        self.tell("state", state="listening" if listens else "waiting")

    def duck(self, on: bool) -> None:
        """Let the pages be mute meanwhile: somebody may be interrupting."""
        if on != self._ducked:
            self._ducked = on
            self.tell("duck", on=on)

    def shown(self, seconds: float) -> None:
        """A page has shown the video up to a position."""
        self._shown = seconds, self.now()

    def played(self) -> float:
        """How far the video was shown; at the pace of real time where no page tells."""
        if self._shown is None:
            return self.feed.heard_seconds
        seconds, at = self._shown
        return min(seconds + min(self.now() - at, FRESH_SECONDS), self.feed.spoken_seconds)

    def tell_void(self, played: float) -> None:
        """Tell the pages which sound of the video is void, after what waited was called off; and that less is, if the
        block that is being made is taken back."""
        until = self.feed.spoken_seconds
        if until > played:
            self.tell("interrupted", seconds=round(played, 3), until=round(until, 3))
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(self._follow_void(until))

    async def _follow_void(self, until: float) -> None:
        while (goes_on := self.feed.goes_on) is None:
            await asyncio.sleep(WATCH_SECONDS)
        if goes_on < until:
            self.tell("void", until=round(goes_on, 3))

    def measured(self, turn: int, timings: Timings, first: int | None) -> bool:
        """Tell the times of an answer, whose first sample in the feed is ``first``; False while it was not shown."""
        place = None if first is None else self.feed.place_of(first)
        if place is None:
            return False
        timings.mark("block")
        if self._shown is not None:
            if self.played() < place:
                return False
            timings.mark("lips")
        self.tell("timings", turn=turn, **timings.as_json())
        return True

    def error(self, sentence: str) -> None:
        """Tell the pages and the node what went wrong, and what to do about it."""
        self.tell("error", message=sentence)
        self._on_error(sentence)


talks: WeakValueDictionary[str, Talk] = WeakValueDictionary()
"""The conversations that pages can join, by their ids."""
