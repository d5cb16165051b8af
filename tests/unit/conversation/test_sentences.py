"""How an answer is cut into pieces for a voice."""

# ruff: noqa: RUF001  (the marks of other scripts are meant)

from __future__ import annotations

import asyncio

import pytest
from avatar.conversation.reply import only_hums, words_in
from avatar.conversation.sentences import LONGEST, Sentences, sentences, spoken

CASES = {
    "english": (
        "Well, the answer is simple, I think. It costs 3.50 euros, or 1,000.25 in all! Is that fine?",
        [
            "Well, the answer is simple,",
            "I think.",
            "It costs 3.50 euros, or 1,000.25 in all!",
            "Is that fine?",
        ],
    ),
    "spanish": (
        "¡Claro que sí! El tren sale a las 10:30 y cuesta 1.250,75 euros. ¿Quiere el Sr. García un billete?",
        [
            "¡Claro que sí!",
            "El tren sale a las 10:30 y cuesta 1.250,75 euros.",
            "¿Quiere el Sr. García un billete?",
        ],
    ),
    "chinese": (
        "你好，很高兴认识你。今天气温是3.5度，有点冷！你想聊什么？",
        ["你好，很高兴认识你。", "今天气温是3.5度，有点冷！", "你想聊什么？"],
    ),
    "abbreviations": (
        "Yes indeed. Dr. Smith and J. Doe agree, e.g. on no. 5 of it. Good.",
        ["Yes indeed.", "Dr. Smith and J. Doe agree, e.g. on no. 5 of it.", "Good."],
    ),
    "a list": ("Here it is:\n1. Bread\n2. Milk and so on", ["Here it is:", "1. Bread", "2. Milk and so on"]),
    "quotes": ('He said "go away." Then he left.', ['He said "go away."', "Then he left."]),
    "no mark at the end": ("It is what it is", ["It is what it is"]),
    "only marks": ("... !", []),
}


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("name", CASES)
def test_the_first_piece_ends_at_a_pause_and_all_others_are_sentences(name, size):
    text, expected = CASES[name]

    async def pieces():
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def collect():
        return [sentence async for sentence in sentences(pieces())]

    assert asyncio.run(collect()) == expected


def test_a_sentence_is_ready_as_soon_as_it_is_certain_to_be_over():
    cutter = Sentences()
    assert list(cutter.push("The price is 3")) == []
    assert list(cutter.push(".")) == []  # of a number, perhaps
    assert list(cutter.push("5 today.")) == []
    assert list(cutter.push(" ")) == ["The price is 3.5 today."]


def test_sentences_without_end_are_cut_between_words():
    cutter = Sentences()
    pieces = [*cutter.push("word " * 200), *cutter.rest()]
    assert len(pieces) > 3 and max(map(len, pieces)) <= LONGEST
    assert " ".join(pieces).split() == ["word"] * 200


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_thoughts_are_not_said(size):
    text = "<think>The user is\nasking. Hm.</think>\n\nI know <b it well. <think>More</think> Really."

    async def pieces():
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def collect():
        return [sentence async for sentence in sentences(pieces())]

    assert asyncio.run(collect()) == ["I know <b it well.", "Really."]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("**Bold** and _soft_ `code`", "Bold and soft code"),
        ("# Title", "Title"),
        ("- a point", "a point"),
        ("see [the page](https://example.com/a?b=1) now", "see the page now"),
        ("[happy] Great 🎉!", "Great !"),
        ("at https://example.com/x.y there", "at there"),
        ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4"),
    ],
)
def test_markup_is_not_said(written, said):
    assert spoken(written) == said


def test_noises_in_transcripts_are_no_words():
    assert words_in("[BLANK_AUDIO]") == words_in(" (coughs) ♪♪ *laughs* ...") == ""
    assert words_in("(coughs) Yes, 42.") == "Yes, 42."
    assert only_hums("Mhm, mm.") and only_hums("嗯") and not only_hums("Mhm, stop")


def test_closing_the_sentences_closes_the_answer():
    closed = []

    async def pieces():
        try:
            while True:
                yield "And so it goes. "
        finally:
            closed.append(True)

    async def take_one():
        answer = sentences(pieces())
        await anext(answer)
        await answer.aclose()

    asyncio.run(take_one())
    assert closed == [True]
