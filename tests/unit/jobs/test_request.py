"""Requests are read before anything is made, and their files before they are decoded."""

from __future__ import annotations

import base64
import json

import pytest
from avatar.jobs.access import Refusal
from avatar.jobs.request import read_live_request, read_request, sent_bytes


def refusal(call, *arguments) -> Refusal:
    with pytest.raises(Refusal) as raised:
        call(*arguments)
    return raised.value


def body(**values) -> bytes:
    return json.dumps({"reference_image": "aaaa", **values}).encode()


def test_a_request_has_a_seed_and_its_files_as_they_came():
    asked = read_request(body(audio="b" * 10_000, num_inference_steps=3))
    assert (asked.job.image, len(asked.job.audio), asked.job.steps) == ("aaaa", 10_000, 3)
    assert asked.wait and asked.workflow is None and asked.job.seed is not None
    assert read_request(body(audio="b", seed=0)).job.seed == 0
    assert read_request(body(audio="b")).job.seed != read_request(body(audio="b")).job.seed


def test_a_live_request_has_no_speech_of_its_own():
    job = read_live_request(body(seed=5, prompt="She smiles.", seconds=60))
    assert (job.image, job.seed, job.prompt, job.seconds) == ("aaaa", 5, "She smiles.", 60)
    for name in ("audio", "text", "voice"):
        assert f"Leave {name} out" in str(refusal(read_live_request, body(**{name: "x"})))
    assert "Leave fps out" in str(refusal(read_live_request, body(fps=25)))
    assert "there is no portrait" in str(refusal(read_live_request, b"{}"))
    assert "no JSON" in str(refusal(read_live_request, b"{"))


def test_files_come_as_base64_or_a_data_url():
    text = base64.b64encode(b"picture").decode()
    assert (
        sent_bytes(text, "audio", 7) == sent_bytes(f"data:image/png;base64,{text}", "audio", 7) == b"picture"
    )
    assert sent_bytes("name.png", "audio", 7) is None


@pytest.mark.parametrize(
    ("value", "status", "sentence"),
    [
        ("a" * 4000, 413, "Send audio smaller: 0 MB may be sent."),
        ("data:audio/wav,abc", 400, "its data URL has none"),
        ("no base64!", 400, "Send audio as base64: these letters are none."),
    ],
)
def test_other_files_are_refused(value, status, sentence):
    refused = refusal(sent_bytes, value, "audio", 1000)
    assert refused.status == status and sentence in str(refused)
