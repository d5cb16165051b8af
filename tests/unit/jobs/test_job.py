"""What a job may ask for, and what is said about the rest."""

from __future__ import annotations

import pytest
from avatar.jobs.job import FIELDS, MAX_SEED, read_job

PLAIN = {"image": "a.png", "audio": "a.wav"}
NAMES = {field: field for field in FIELDS}


def read(**values):
    return read_job({**PLAIN, **values}, NAMES)


def test_what_is_not_given_stays_open():
    job = read(seed=None, prompt=None)
    assert (job.image, job.audio, job.seed, job.steps, job.guidance, job.fps, job.prompt) == (
        "a.png", "a.wav", None, None, None, None, None,
    )  # fmt: skip


def test_numbers_keep_their_type():
    job = read(seed=MAX_SEED, steps=4, guidance=2, fps=15)
    assert (job.seed, job.steps, job.guidance, job.fps) == (MAX_SEED, 4, 2.0, 15.0)
    assert isinstance(job.guidance, float) and isinstance(job.steps, int)


def test_a_random_seed_is_open():
    assert read(seed="Random").seed is None


def test_a_written_number_counts_in_a_table_only():
    assert read_job({**PLAIN, "steps": " 8 "}, NAMES, written=True).steps == 8
    with pytest.raises(ValueError, match="Set steps to a whole number from 1 to 50: it is '8'"):
        read(steps="8")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"seed": -1}, "Set seed to a whole number from 0 to .* or random: it is -1"),
        ({"seed": MAX_SEED + 1}, "Set seed"),
        ({"seed": True}, "Set seed"),
        ({"seed": 1.5}, "Set seed"),
        ({"steps": 0}, "Set steps to a whole number from 1 to 50: it is 0"),
        ({"steps": 51}, "Set steps"),
        ({"guidance": 0.9}, "Set guidance to a number from 1 to 5"),
        ({"guidance": float("nan")}, "Set guidance"),
        ({"fps": 31}, "Set fps to a number from 15 to 30"),
        ({"seconds": float("inf")}, "Set seconds"),
        ({"prompt": ""}, "Set prompt to a text: it is ''"),
        ({"prompt": 3}, "Set prompt to a text"),
        ({"prompt": "\ud800"}, "Take the control characters out of prompt"),
        ({"prompt": "a" * 30_000}, "Shorten prompt to 20000 letters"),
        ({"image": "a\nb.png"}, "Take the control characters out of image"),
        ({"text": "Hello"}, "Give either audio or text: both are there"),
        ({"audio": None}, "Give either audio or text: neither is there"),
        ({"image": None}, "Give image: there is no portrait"),
        ({"voice": "Ana"}, "Leave voice out: there is no text for it to say"),
        ({"colour": 1}, "Leave 'colour' out: there is no such input"),
        ({"output": "../up"}, "Set output to a name such as"),
        ({"output": "/etc/passwd"}, "Set output to a name"),
        ({"output": "a/./b"}, "Set output to a name"),
        ({"output": "name. "}, "Set output to a name"),
        ({"output": "c:\\x"}, "Take : \\\\ out of output"),
        ({"output": "%date%"}, "Take % out of output"),
        ({"output": "é" * 100}, "Shorten output to 150 bytes"),
    ],
)
def test_a_value_without_sense_is_named(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(**values)


def test_an_output_may_lie_in_a_folder_and_loses_its_ending():
    assert read(output="monday/first.MP4").output == "monday/first"


def test_messages_use_the_name_that_was_given():
    names = {"reference_image": "image", "audio": "audio", "text": "text", "num_inference_steps": "steps"}
    with pytest.raises(ValueError, match="Set num_inference_steps to"):
        read_job({"reference_image": "a", "audio": "b", "num_inference_steps": 99}, names)
    with pytest.raises(ValueError, match="Give reference_image: there is no portrait"):
        read_job({"audio": "b"}, names)
