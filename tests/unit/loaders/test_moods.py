"""Moods as a workflow gives them: names, times, and the block that a time belongs to."""

from __future__ import annotations

import pytest
import torch
from avatar.loaders.liveavatar.moods import MOST, check_moods, mood_at, read_spans, with_mood

import tools.pack  # noqa: F401


def prompt(width: int = 8) -> list:
    return [[torch.ones(1, 5, width), {}]]


def test_times_are_read_and_the_last_may_be_open():
    assert read_spans("2-4.5, 8-") == ((2.0, 4.5), (8.0, float("inf")))
    assert read_spans("") == ()


@pytest.mark.parametrize("text", ["3", "4-2", "2-2", "-3", "a-b", "1-2;3-4", "1e3-", "nan-", "2--3"])
def test_times_that_cannot_be_read_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"in seconds, as in 2-4\.5, 8-"):
        read_spans(text)


@pytest.mark.parametrize("name", ["", "Happy", "very happy", "neutral", "x" * 41, "glücklich"])
def test_names_that_no_tag_can_ask_for_are_refused(name):
    with pytest.raises(ValueError, match="mood"):
        with_mood((), name, prompt())


def test_a_name_is_given_once_and_moods_have_a_limit():
    moods = with_mood((), "happy", prompt())
    with pytest.raises(ValueError, match="two are called happy"):
        with_mood(moods, "happy", prompt())
    for number in range(1, MOST):
        moods = with_mood(moods, f"mood-{number}", prompt())
    with pytest.raises(ValueError, match="can have 16"):
        with_mood(moods, "one-more", prompt())


def test_a_block_has_the_mood_of_its_middle_and_the_later_node_counts():
    moods = with_mood(with_mood((), "happy", prompt(), "0.5-2"), "sad", prompt(), "1.5-1.7,4-")
    # Blocks have 12 frames, the first of which shows 9: their middles are at 0.12, 0.6, 1.08, 1.56, 2.04 s and so on.
    assert [mood_at(moods, block) for block in range(9)] == [
        "neutral",
        "happy",
        "happy",
        "sad",
        "neutral",
        "neutral",
        "neutral",
        "neutral",
        "neutral",
    ]
    assert mood_at(moods, 9) == "sad" and mood_at(moods, 10_000) == "sad"


def test_moods_of_another_text_encoder_or_that_never_come_are_refused():
    moods = with_mood((), "happy", prompt())
    check_moods(moods, 8, live=True)
    with pytest.raises(ValueError, match=r"happy with the prompt's text encoder.*8 wide, the prompt 9"):
        check_moods(moods, 9, live=True)
    with pytest.raises(ValueError, match="Write times into the mood happy"):
        check_moods(moods, 8, live=False)
