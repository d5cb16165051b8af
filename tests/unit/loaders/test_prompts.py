"""Prompts from choices."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from itertools import product

import pytest
from avatar.engines.ditto.config import EMOTIONS as DITTO_EMOTIONS
from avatar.loaders.liveavatar.prompts import EMOTIONS, TABLES, Choices, write_prompt

import tools.pack  # noqa: F401


def test_a_prompt_says_who_first_then_the_face_then_the_body_then_the_camera():
    chosen = Choices(
        "A woman with grey hair.", "A red coat", "in a garden", "happy", hands="gestures", more="She is 60."
    )
    assert write_prompt(chosen) == (
        "A woman with grey hair, wearing a red coat, in a garden, speaks with a bright smile, raised cheeks and "
        "shining eyes. The movements are natural and follow the rhythm of the speech. The head nods and tilts "
        "lightly while speaking. The hands make small gestures that go with the words. The eyes look straight into the "
        "camera and blink from time to time. Medium close-up of head and shoulders, the camera does not move. "
        "Soft, even light from the front. Realistic video, sharp, with natural colours. She is 60."
    )


def test_what_is_left_empty_is_not_said():
    said = write_prompt(Choices("  ", light="as in the picture", style="as in the picture"))
    assert said.startswith("A person speaks with a warm") and "wearing" not in said
    assert said.endswith("the camera does not move.")


@pytest.mark.parametrize("clothes", ["in a red coat", "Wearing a red coat.", "a red coat"])
def test_clothes_read_as_one_phrase(clothes):
    assert re.match(r"A person, (in|wearing) a red coat, speaks", write_prompt(Choices(clothes=clothes)))


def test_every_choice_changes_the_prompt_and_makes_whole_sentences():
    tables = {"emotion": EMOTIONS, **TABLES}
    said = [
        write_prompt(replace(Choices(), **{name: key})) for name, table in tables.items() for key in table
    ]
    usual = write_prompt(Choices())
    assert len(set(said) - {usual}) == sum(len(table) - 1 for table in tables.values())
    for text in said:
        assert text.endswith(".") and ".." not in text and "  " not in text and len(text.split()) < 150
    assert all(getattr(Choices(), name) in table for name, table in tables.items())
    assert set(tables) <= {field.name for field in fields(Choices)}


def test_no_two_choices_of_different_tables_say_the_same():
    sentences = [text for table in TABLES.values() for text in table.values() if text]
    assert all(a != b for number, a in enumerate(sentences) for b in sentences[:number])
    assert len(list(product(*TABLES.values()))) > 1000


def test_a_choice_that_is_in_no_table_is_named():
    with pytest.raises(ValueError, match=r"Choose emotion among neutral, friendly.*no 'merry'"):
        write_prompt(Choices(emotion="merry"))


def test_the_emotions_of_ditto_are_among_them_under_their_names():
    assert set(DITTO_EMOTIONS) <= set(EMOTIONS)
