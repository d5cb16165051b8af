"""A stage for conversations on a virtual clock: a person with a microphone, services with stated delays, an avatar."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager

import torch
from avatar.conversation.activity import WINDOW, Loudness
from avatar.conversation.loop import Conversation, Manners
from avatar.conversation.roles import EARS_RATE, Heard, ServiceError
from avatar.conversation.talk import RATE, Played, Sound, Typed, talk_feed

PIECE = 0.02
PITCHES = {"What is": 300, "the time": 450, "Stop": 650, "Mhm.": 900, "(coughs)": 1200, "": 1600}
"""How each utterance of the tests sounds."""
LETTER_SECONDS = 0.06
BLOCK_SECONDS, STEPS = 0.48, 4


class Microphone:
    """Speaks into a conversation in pieces of 20 ms, at the pace of the clock."""

    def __init__(self, talk):
        self._talk, self._phase = talk, 0.0

    async def say(self, words, seconds):
        for _ in range(round(seconds / PIECE)):
            times = torch.arange(round(PIECE * RATE)) / RATE
            tone = 0.2 * torch.sin(2 * math.pi * (PITCHES[words] * times + self._phase))
            self._phase += PITCHES[words] * PIECE
            await self._send(tone)

    async def quiet(self, seconds):
        for _ in range(round(seconds / PIECE)):
            await self._send(torch.zeros(round(PIECE * RATE)))

    async def _send(self, samples):
        await asyncio.sleep(PIECE)
        assert self._talk.send(Sound(samples))


class PitchEars:
    """Knows utterances by their pitch."""

    def __init__(self, delay=0.1):
        self.delay, self.asked, self.fails = delay, 0, None

    async def probe(self):
        pass

    async def transcribe(self, sound):
        self.asked += 1
        await asyncio.sleep(self.delay)
        if self.fails:
            raise ServiceError(self.fails)
        found = []
        for window in sound[: len(sound) // WINDOW * WINDOW].split(WINDOW):
            if min(part.abs().max() for part in window.split(64)) > 0.1:
                pitch = (window[1:].sign() != window[:-1].sign()).sum().item() * EARS_RATE / WINDOW / 2
                words = min(PITCHES, key=lambda words: abs(PITCHES[words] - pitch))
                if words not in found:
                    found.append(words)
        return Heard(" ".join(found).strip())


class ScriptedMind:
    """Answers what a script says, a few letters at a time."""

    def __init__(self, answers, delay=0.15, pace=0.01):
        self.answers, self.delay, self.pace = answers, delay, pace
        self.asked, self.begun, self.ended, self.fails = [], 0, 0, None

    async def probe(self):
        pass

    async def answer(self, lines):
        self.asked.append([(line.role, line.text) for line in lines])
        self.begun += 1
        await asyncio.sleep(self.delay)
        answer = self.answers.get(lines[-1].text, "I do not know.")
        for start in range(0, len(answer), 4):
            if self.fails and start >= 40:
                raise ServiceError(self.fails)
            yield answer[start : start + 4]
            await asyncio.sleep(self.pace)
        self.ended += 1


class SteadyVoice:
    """Says letters at a steady pace, in pieces of a tenth of a second, ten times faster than they are heard."""

    def __init__(self, delay=0.12):
        self.delay, self.said, self.begun = delay, [], []

    async def probe(self):
        pass

    async def speak(self, text):
        self.begun.append(text)
        await asyncio.sleep(self.delay)
        for _ in range(max(1, round(len(text) * LETTER_SECONDS / 0.1))):
            yield torch.full((round(0.1 * RATE),), 0.25), RATE
            await asyncio.sleep(0.01)
        self.said.append(text)


class Stage:
    """A conversation with all that it needs. ``told`` is what a page is told, ``shown`` are the positions of the video
    that it shows, each with its time."""

    def __init__(self, answers, manners=None, finished=None, ears=True):
        self.loop = asyncio.get_running_loop()
        self.feed = talk_feed(self.loop.time)
        self.ears, self.mind, self.voice = PitchEars(), ScriptedMind(answers), SteadyVoice()
        self.errors, self.told, self.video, self.shown = [], [], [], []
        self.talk = Conversation(
            self.feed,
            self.mind,
            self.voice,
            self.ears if ears else None,
            manners or Manners(longest_pause=0.4),
            finished,
            Loudness(),
            self.errors.append,
        )
        self.microphone = Microphone(self.talk)
        self.talk.join(lambda message: self.told.append((self.loop.time(), message)))

    def type(self, text):
        assert self.talk.send(Typed(text))

    async def avatar(self, block_seconds=0.1, player_seconds=None, abandons=True):
        """Makes a video of the feed, each block in so many seconds, or abandons it when it is void. A page shows it so
        many seconds after a block is made, at the pace of real time, and tells what it has shown; None: no page
        watches."""
        size, shown = round(BLOCK_SECONDS * RATE), 0.0
        while (piece := self.feed.take(size)) is not None:
            if isinstance(piece, float):
                await asyncio.sleep(min(max(piece, 0.001), 0.02))  # less may be no step of the clock
                continue
            if not await self._made(block_seconds, abandons):
                continue
            self.video.append(piece)
            if player_seconds is not None:
                begins = max(self.loop.time() + player_seconds, shown)
                shown = begins + BLOCK_SECONDS
                self.loop.call_at(begins, self._show, (len(self.video) - 1) * BLOCK_SECONDS)

    async def _made(self, block_seconds, abandons):
        """Make a block step by step; False where it is abandoned."""
        for _ in range(STEPS):
            await asyncio.sleep(block_seconds / STEPS)
            if abandons and self.feed.take_back():
                return False
        return True

    def _show(self, position):
        """Play one block from its position."""
        for step in range(round(BLOCK_SECONDS / PIECE)):
            self.loop.call_later(step * PIECE, self._show_frame, position + step * PIECE)

    def _show_frame(self, position):
        self.shown.append((self.loop.time(), position))
        self.talk.send(Played(position))

    def messages(self, type_):
        return [message for _, message in self.told if message["type"] == type_]

    def states(self):
        return [message["state"] for message in self.messages("state")]

    def when(self, type_, **values):
        """When the first such message was told."""
        return next(
            at for at, message in self.told if message["type"] == type_ and values.items() <= message.items()
        )

    def history(self):
        return [(line.role, line.text) for line in self.talk.history]

    def loud_seconds(self):
        """How much of the video's sound is speech."""
        return sum((block != 0).sum().item() for block in self.video) / RATE

    async def until(self, condition, timeout=60):
        deadline = self.loop.time() + timeout
        while not condition():
            assert self.loop.time() < deadline, self.told[-20:]
            await asyncio.sleep(0.01)


@asynccontextmanager
async def on_stage(answers, block_seconds=0.1, player_seconds=None, abandons=True, **options):
    """A stage whose conversation and avatar run."""
    stage = Stage(answers, **options)
    talking = asyncio.create_task(stage.talk.run())
    avatar = asyncio.create_task(stage.avatar(block_seconds, player_seconds, abandons))
    await asyncio.sleep(0.01)
    try:
        yield stage
    finally:
        stage.feed.close()
        avatar.cancel()
        await asyncio.wait((talking, avatar))
        talking.result()
