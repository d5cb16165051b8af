"""The conversation with ears, a mind and a voice of one's choice.

A turn's end is a guess. After a tenth of a second of silence the words are asked for, the answer begins and its first
clause gets its sound; nothing of it is played until the turn counts as over. If the person goes on, that work is
dropped. If the person goes on after that, before anything was heard or within `TAKEN_BACK_SECONDS`, the turn is taken
back, and both pieces are one question. Later it is an interruption: the page is mute, then the answer stops, and what
was not heard is neither said nor remembered, unless no word was said, after which the answer goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..media.speech_feed import Closed, Full, SpeechFeed
from .activity import Activity, best_activity
from .onset import DUCK_SECONDS
from .reply import Piece, Reply, finished, only_hums, words_in
from .roles import Ears, Heard, Line, Mind, ServiceError, Voice
from .sentences import Sentences, sentences
from .talk import RATE, WATCH_SECONDS, End, Held, Hush, Played, Sound, Talk, Typed
from .timings import Timings
from .turns import Ended, Finished, Paused, Speaking, Turns

TAKEN_BACK_SECONDS = 1.2
"""A person who goes on so soon after the end of a turn had not finished."""
INTERRUPT_SECONDS = 0.25
"""Speech after which the answer stops."""
SURE_SECONDS = 1.0
"""So much speech has words: the rest of the answer is not made any more."""
BLOCK_SECONDS, GATHER_SECONDS = 0.48, 0.1
"""An answer begins with so much sound, for which a block is made at once, or what a moment brings: with less, the block
would begin with silence."""
AHEAD_SECONDS = 8.0
"""So much sound is made ahead of what is spoken."""
REMEMBERED_LINES = 400

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manners:
    """How the conversation is led.

    Args:
        push_to_talk: turns are what is said while the key is down.
        pause: silence after which ``finished`` is asked, in seconds.
        longest_pause: silence after which a turn is over in any case.
        barge_in: a person may interrupt an answer.
        greeting: said first; may be empty.
        filler: a short sound [S] and its rate, for the time until the answer's own.
    """

    push_to_talk: bool = False
    pause: float = 0.2
    longest_pause: float = 0.8
    barge_in: bool = True
    greeting: str = ""
    filler: tuple[Tensor, int] | None = None


class Conversation(Talk):
    """See the module.

    Args:
        ears: None: messages are typed only.
        finished: tells whether a turn sounds finished; None: silence decides.
        activity: None: Silero VAD where it is installed, else loudness.
    """

    def __init__(
        self,
        feed: SpeechFeed,
        mind: Mind,
        voice: Voice,
        ears: Ears | None,
        manners: Manners,
        finished: Finished | None = None,
        activity: Activity | None = None,
        on_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(feed, on_error)
        self._mind, self._voice, self._ears, self._manners = mind, voice, ears, manners
        self.hears, self.push_to_talk = ears is not None, manners.push_to_talk
        self.barge_in = manners.barge_in
        longest_pause = math.inf if manners.push_to_talk else manners.longest_pause
        self._turns = Turns(activity or best_activity(), RATE, manners.pause, longest_pause, finished)
        self.history: list[Line] = []
        self._reply: Reply | None = None  # accepted, and not yet heard to its end
        self._guess: Reply | None = None  # for a turn that may not be over
        self._pending: Reply | None = None  # for a turn that is over, whose words are not known yet
        self._unfinished: tuple[Piece, ...] = ()  # turns that were taken back
        self._count = 0

    async def converse(self) -> None:
        """Talk until cancelled."""
        self._rest()
        probing = asyncio.create_task(self._probe())
        try:
            if self._manners.greeting:
                self._greet(self._manners.greeting)
            while True:
                self._take(await self.next_message())
        finally:
            probing.cancel()
            for reply in (self._reply, self._guess, self._pending):
                if reply is not None:
                    reply.cancel()

    def _take(self, message: Any) -> None:
        if isinstance(message, Sound):
            self._hear(message.samples)
        elif isinstance(message, Typed):
            self._typed(message.text)
        elif isinstance(message, Held):
            self._key(message.held)
        elif isinstance(message, Played):
            self.shown(message.seconds)
        elif isinstance(message, Hush):
            self._hush()
        elif isinstance(message, End):
            self.feed.end()

    # What the person does.

    def _hear(self, samples: Tensor) -> None:
        if self._ears is None or (self.push_to_talk and not self.held_key):
            return
        for event in self._turns.hear(samples):
            if isinstance(event, Speaking):
                self._speaking(event.seconds)
            elif isinstance(event, Paused):
                self._paused(event.sound)
            else:
                self._ended(event)

    def _speaking(self, seconds: float) -> None:
        self._drop_guess()
        if seconds >= INTERRUPT_SECONDS:
            self._take_back_pending()
        reply = self._reply
        if reply is None:
            self.tell("state", state="listening")
        elif reply.held:
            if seconds >= SURE_SECONDS:
                reply.cancel()
        elif self._manners.barge_in or self._may_take_back(reply):
            if seconds >= DUCK_SECONDS:
                self.duck(True)
            if seconds >= INTERRUPT_SECONDS:
                self._hold(reply, self._may_take_back(reply))

    def _paused(self, sound: Tensor) -> None:
        if self._answering():
            return self.duck(False)  # too short to interrupt
        self._drop_guess()
        self._guess = self._new_reply(Piece(asyncio.ensure_future(self._ears.transcribe(sound))))
        self._work(self._guess, self._answer(self._guess))

    def _ended(self, turn: Ended) -> None:
        self.duck(False)
        if self._answering():
            return  # too short to interrupt, or nobody may
        if self._guess is None:
            self._paused(turn.sound)
        guess, self._guess = self._guess, None
        guess.timings.ended(self.now() - turn.silence)
        guess.timings.mark("turn_end")
        self._confirm(guess)

    def _typed(self, text: str) -> None:
        self._drop_guess()
        self._turns.reset()
        self._take_back_pending()
        if self._answering():
            self._hold(self._reply)
        reply = self._new_reply(Piece(finished(Heard(text)), typed=True))
        reply.timings.mark("turn_end")
        self._work(reply, self._answer(reply))
        self._confirm(reply)

    def _key(self, held: bool) -> None:
        if not self.push_to_talk or held == self.held_key:
            return
        self.held_key = held
        if held:
            self._turns.reset()
            self._take_back_pending()
            if self._answering():
                self._hold(self._reply, self._may_take_back(self._reply))
            self.tell("state", state="listening")
        elif (turn := self._turns.finish()) is not None:
            self._ended(turn)
        else:
            self._go_on()

    def _hush(self) -> None:
        if self._reply is None and self._pending is None:
            return
        self._take_back_pending()
        self._unfinished = ()
        if self._reply is not None:
            if not self._reply.held:
                self._hold(self._reply)
            self._settle(self._reply)
        self._rest()

    # The answers.

    def _new_reply(self, *pieces: Piece) -> Reply:
        self._count += 1
        timings = Timings(self.now, self.now())
        return Reply(self._count, (*self._unfinished, *pieces), self.feed, timings)

    def _work(self, reply: Reply, work: Coroutine[Any, Any, None]) -> None:
        reply.run(asyncio.create_task(self._guarded(reply, work)))

    async def _guarded(self, reply: Reply, work: Coroutine[Any, Any, None]) -> None:
        """Work for a reply, whose errors become a sentence once the person has finished."""
        try:
            await work
        except Closed:
            reply.complete = True
        except Exception as error:
            sentence = str(error)
            if not isinstance(error, ServiceError | Full):
                logger.exception("LiveAvatar: an answer has failed.")
                sentence = f"Ask again: this answer has failed ({error!r})."
            await reply.confirmed.wait()
            self.error(sentence)
            reply.complete = True
            if reply is self._pending:
                self._pending = None
                self._go_on()

    def _confirm(self, reply: Reply) -> None:
        """The person has finished."""
        reply.ended_at = self.now()
        reply.confirmed.set()
        self.tell("state", state="thinking")
        if reply.understood:
            self._accept(reply)
        else:
            self._pending = reply

    async def _answer(self, reply: Reply) -> None:
        """From the question's sound to the answer's; waits for the gate before anything is played."""
        # A turn that is taken back is understood all the same: it is the first part of a question.
        heard = [words_in((await asyncio.shield(piece.transcript)).text) for piece in reply.pieces]
        reply.timings.mark("ears")
        new = [
            words
            for words, piece in zip(heard, reply.pieces, strict=True)
            if piece not in self._held_pieces()
        ]
        interrupts = self._reply is not None and not self._reply.taken_back
        if not any(new) or (interrupts and not reply.pieces[-1].typed and all(map(only_hums, new))):
            await reply.confirmed.wait()
            self._pending = None
            self.tell("heard", text="", final=False)
            self._go_on()
            return
        reply.question, reply.understood = " ".join(filter(None, heard)), True
        if reply.confirmed.is_set():
            self._accept(reply)
        else:
            self.tell("heard", text=reply.question, final=False)
        lines = [*self.history]
        if self._reply not in (None, reply) and not self._reply.taken_back:
            lines += self._reply.lines(self.played())
        await self._say(reply, [*lines, Line("user", reply.question)])

    def _accept(self, reply: Reply) -> None:
        """The turn is over and has words: what was said before it is settled."""
        if self._reply is not None:
            self._settle(self._reply)
        self._reply, self._pending, self._unfinished = reply, None, ()
        self.tell("heard", text=reply.question, final=True)
        self.tell("state", state="thinking")
        reply.gate.set()
        if self._manners.filler is not None and not reply.timings.has("voice"):
            reply.spoken.begin("")
            reply.spoken.write(*self._manners.filler)
            reply.spoken.complete()
        self._work(reply, self._watch(reply))

    async def _say(self, reply: Reply, lines: list[Line]) -> None:
        ready: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        thinking = asyncio.create_task(self._think(reply, lines, ready))
        try:
            while (said := await ready.get()) is not None:
                await self._say_sentence(reply, *said)
            await thinking
        finally:
            thinking.cancel()
        reply.complete = True

    async def _think(
        self, reply: Reply, lines: list[Line], ready: asyncio.Queue[tuple[str, str] | None]
    ) -> None:
        """Put each sentence with its mood into ``ready``, and None behind the last one."""
        cutter = Sentences()
        try:
            async with aclosing(sentences(self._mind.answer(lines), cutter)) as answer:
                async for sentence in answer:
                    reply.timings.mark("mind")
                    ready.put_nowait((sentence, cutter.mood))
        finally:
            ready.put_nowait(None)

    async def _say_sentence(self, reply: Reply, sentence: str, mood: str = "") -> None:
        begun, gathered, since = False, [], self.now()
        async with aclosing(self._voice.speak(sentence)) as sound:
            async for samples, rate in sound:
                if not gathered:
                    since = self.now()
                reply.timings.mark("voice")
                await self._may_speak(reply)
                gathered.append(samples)
                seconds = sum(map(len, gathered)) / rate
                if reply.silent and seconds < BLOCK_SECONDS and self.now() - since < GATHER_SECONDS:
                    continue
                begun = self._write(reply, sentence, gathered, rate, begun, mood)
                gathered = []
        if gathered:
            await self._may_speak(reply)
            begun = self._write(reply, sentence, gathered, rate, begun, mood)
        if begun:
            await self._may_speak(reply)
            reply.spoken.complete()

    def _write(
        self, reply: Reply, sentence: str, sound: list[Tensor], rate: int, begun: bool, mood: str
    ) -> bool:
        """Let sound of a sentence be spoken."""
        if not begun:
            reply.silent = False
            reply.timings.mark("written")
            reply.spoken.begin(sentence, mood)
            self.tell("said", text=sentence, turn=reply.turn)
            self.tell("state", state="speaking")
        for samples in sound:
            reply.spoken.write(samples, rate)
        return True

    async def _may_speak(self, reply: Reply) -> None:
        """Wait for the gate, and while enough waits to be spoken."""
        await reply.gate.wait()
        while self.feed.waiting_seconds > AHEAD_SECONDS or not reply.gate.is_set():
            await asyncio.sleep(WATCH_SECONDS)

    async def _watch(self, reply: Reply) -> None:
        """Follow an answer until it was heard to its end."""
        while not (reply.complete and not reply.held and reply.spoken.all_heard(self.played())):
            await asyncio.sleep(WATCH_SECONDS)
            if not reply.measured and reply.timings.has("written"):
                reply.measured = self.measured(reply.turn, reply.timings, reply.spoken.first)
        if self._reply is reply:
            self._settle(reply)
            self._rest()

    def _greet(self, text: str) -> None:
        reply = self._reply = self._new_reply()
        reply.confirmed.set()
        reply.gate.set()

        async def say() -> None:
            await self._say_sentence(reply, text)
            reply.complete = True

        self._work(reply, say())
        self._work(reply, self._watch(reply))

    # Interruptions.

    def _answering(self) -> bool:
        return self._reply is not None and not self._reply.held

    def _may_take_back(self, reply: Reply) -> bool:
        spoken = bool(reply.pieces) and not reply.pieces[-1].typed
        soon = self.now() - reply.ended_at < TAKEN_BACK_SECONDS
        return spoken and (soon or not reply.spoken.any_heard(self.played()))

    def _hold(self, reply: Reply, take_back: bool = False) -> None:
        """Stop an answer until it is known whether the person says words."""
        played = self.played()
        reply.hold(played, take_back)
        if take_back:
            self._unfinished = reply.pieces
        if reply.spoken.begun:
            self.tell_void(played)
        self.duck(False)
        self.tell("state", state="listening")

    def _go_on(self) -> None:
        """No word was said: an answer that was stopped goes on."""
        self._unfinished = ()
        if self._reply is not None and self._reply.held:
            if self._reply.complete:  # its work was stopped, but what is there is said
                self._work(self._reply, self._watch(self._reply))
            self._reply.release()
            self.tell("state", state="speaking" if self._reply.timings.has("written") else "thinking")
        elif self._reply is None:
            self._rest()

    def _drop_guess(self) -> None:
        if self._guess is not None:
            self._guess.pieces[-1].transcript.cancel()
            self._guess.cancel()
            self._guess = None

    def _take_back_pending(self) -> None:
        """The person goes on before the words of the last turn are known."""
        if self._pending is not None:
            self._unfinished = self._pending.pieces
            self._pending.cancel()
            self._pending = None

    def _held_pieces(self) -> tuple[Piece, ...]:
        return self._reply.pieces if self._reply is not None and self._reply.held else ()

    def _settle(self, reply: Reply) -> None:
        """The answer is over: what was heard of it belongs to the conversation, except for a turn that goes on."""
        if not reply.taken_back:
            lines = reply.lines(self.played())
            if lines and (lines[-1].role == "assistant" or not reply.complete or reply.held):
                self.history = [*self.history, *lines][-REMEMBERED_LINES:]
        reply.cancel()
        if self._reply is reply:
            self._reply = None

    def _rest(self) -> None:
        self.duck(False)
        self.rest()

    async def _probe(self) -> None:
        """Tell at once which service is not there."""
        services = [service for service in (self._ears, self._mind, self._voice) if service is not None]
        found = await asyncio.gather(*(service.probe() for service in services), return_exceptions=True)
        for error in found:
            if isinstance(error, ServiceError):
                self.error(str(error))
