"""Moods that a language model writes into its answer: they begin with the sound of their sentence."""

from __future__ import annotations

import asyncio

import pytest
import torch
from avatar.conversation.sentences import Sentences, sentences
from avatar.conversation.spoken import Spoken
from avatar.media.speech_feed import SpeechFeed

from tools.conversation_stage import on_stage
from tools.virtual_time import run_virtually

RATE = 1000
SIZE = 480
ANSWER = (
    "[happy] What good news that is! I am glad about it. [sad] But now it rains. [1] And so on, as I said."
)


def said_with_moods(answer: str, size: int) -> list[tuple[str, str]]:
    async def pieces():
        for start in range(0, len(answer), size):
            yield answer[start : start + size]

    async def main():
        cutter = Sentences()
        return [(sentence, cutter.mood) async for sentence in sentences(pieces(), cutter)]

    return asyncio.run(main())


@pytest.mark.parametrize("size", [1, 7, 500])
def test_a_sentence_has_the_last_mood_before_its_end(size):
    assert said_with_moods(ANSWER, size) == [
        ("What good news that is!", "happy"),
        ("I am glad about it.", "happy"),
        ("But now it rains.", "sad"),
        ("[1] And so on, as I said.", "1"),
    ]


def test_an_answer_without_moods_asks_for_none():
    assert {mood for _, mood in said_with_moods("It is noon. Read [this](http://a.b) and [that].", 3)} <= {
        "",
        "that",
    }


@pytest.fixture
def feed() -> SpeechFeed:
    feed = SpeechFeed(RATE, clock=lambda: 100.0)
    feed.moods = ("neutral", "happy")
    return feed


def loud(samples: int) -> torch.Tensor:
    return torch.full((samples,), 0.5)


def test_a_mood_begins_with_its_sentence_and_one_that_the_video_lacks_changes_nothing(feed):
    spoken = Spoken(feed)
    for text, mood in (("One.", ""), ("Two.", "happy"), ("Three.", "furious"), ("Four.", "neutral")):
        spoken.begin(text, mood)
        spoken.write(loud(SIZE), RATE)
        spoken.complete()
    found = []
    for _ in range(4):
        feed.take(SIZE)
        found.append(feed.mood)
    assert found == ["", "happy", "happy", "neutral"]


def test_an_answer_that_goes_on_after_it_was_held_keeps_its_mood(feed):
    spoken = Spoken(feed)
    spoken.begin("One.", "happy")
    spoken.write(loud(SIZE), RATE)
    spoken.take_out(0.0)
    assert feed.waiting_seconds == 0
    spoken.put_in()
    feed.take(SIZE)
    assert feed.mood == "happy"


def test_a_conversation_changes_the_mood_of_its_video():
    async def main():
        async with on_stage({"What is": ANSWER}) as stage:
            stage.feed.moods = ("neutral", "happy", "sad")
            await stage.microphone.say("What is", 0.8)
            moods = []
            for _ in range(40):
                await stage.microphone.quiet(0.25)
                if stage.feed.mood not in moods[-1:]:
                    moods.append(stage.feed.mood)
            return moods, [message["text"] for message in stage.messages("said")]

    moods, said = run_virtually(main())
    assert [mood for mood in moods if mood] == ["happy", "sad"]
    assert said[:2] == ["What good news that is!", "I am glad about it."]
