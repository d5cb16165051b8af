"""The conversations' Mandarin can be read aloud by a voice that knows pinyin."""

from __future__ import annotations

import re

from benchmarks.conversations.scenarios import PINYIN, SCENARIOS


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
