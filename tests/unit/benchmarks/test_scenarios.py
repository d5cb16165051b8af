"""The conversations' Mandarin can be read aloud by a voice that knows pinyin. What was heard is judged leniently, but
another question does not do."""

from __future__ import annotations

import re

import pytest

from benchmarks.conversations.scenarios import PINYIN, SCENARIOS, alike, right

QUESTIONS = {turn.words for turns in SCENARIOS.values() for turn in turns}


def test_every_character_has_a_sound_with_a_tone():
    texts = {
        text
        for turns in SCENARIOS.values()
        for turn in turns
        if turn.language == "Mandarin"
        for text in (turn.words, turn.answer)
    }
    assert len(texts) == 4
    for text in texts:
        words = re.sub(r"[.,?]", " ", text.translate(PINYIN)).split()
        assert words and all(re.fullmatch(r"[a-zü]+[1-5]", word) for word in words), words


def test_nothing_but_the_question_itself_is_right():
    assert len(QUESTIONS) == 6
    for asked in QUESTIONS:
        assert right(asked, asked) == 1.0 and right(asked, "") == 0.0
        assert max(right(asked, other) for other in QUESTIONS - {asked}) <= 0.25
        assert alike(asked, asked) == 1.0 and alike(asked, "") == 0.0
        assert max(alike(asked, other) for other in QUESTIONS - {asked}) <= 0.42


def test_what_sounds_alike_is_alike_wherever_words_begin():
    asked = "Por favor, ¿dónde está la estación?"
    assert alike(asked, "Por favor, donde estará estaión?") > 0.9
    assert alike(asked, "por favor, dime la hora") < 0.4 and alike(asked, "ok") == 0.0


def test_accents_and_marks_do_not_count_and_words_do():
    assert right("¿Qué tiempo va a hacer allí?", "que tiempo va a hacer alli") == 1.0
    assert right("¿Qué tiempo va a hacer allí?", "que tiempo va a hacer") == pytest.approx(5 / 6, abs=1e-3)
    assert right("It may rain.", "Rain may it") == pytest.approx(1 / 3, abs=1e-3)


def test_chinese_that_sounds_alike_counts_as_the_same():
    pytest.importorskip("pypinyin")
    assert right("这个周末我想去爬山", "這個周末 我想去怕傘") == pytest.approx(8 / 9, abs=1e-3)
    assert right("明天会下雨吗?", "明天,會下雨嗎?") == 1.0
    assert right("明天会下雨吗?", "show more") == 0.0
