"""Ditto's condition rows, eyes, and windows of sound against the recorded reference."""

from __future__ import annotations

import json
import re

import pytest
import torch
from avatar.engines.ditto.conditions import Character, Conditions, emotion_row, emotion_rows
from avatar.engines.ditto.face import eyes
from avatar.engines.ditto.motion import FaceMotion, mirrored

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, drawn, fixture, given


def condition_cases():
    if not fx.has_fixture(fx.FAMILY, "06"):
        return []
    about = fx.manifest_entry(fx.FAMILY, "06")["tensors"]
    return [name for name, entry in about.items() if "first frame index" in entry["meaning"]]


def character(source, frames):
    heads = {"kp": given("06", f"{source}/source/kp")}
    for name in ("scale", "pitch", "yaw", "roll", "t", "exp"):
        heads[name] = given("06", f"{source}/source/{name}")
    opens = [drawn(f"{source}/open/{k}", (1, 2), 0.1, 0.8) for k in range(frames)]
    balls = [drawn(f"{source}/ball/{k}", (1, 6), 0.05) for k in range(frames)]
    return Character(FaceMotion.of_heads(heads), torch.cat(opens), torch.cat(balls))


@pytest.mark.parametrize("case", condition_cases())
def test_condition_rows(case):
    t, _ = fixture("06")
    meaning = fx.meaning("06", case)
    words = re.fullmatch(
        r"source (\S+) with (\d+) frames, emotion (.*), first frame index (-?\d+), (\d+) frames, (\{.*\})",
        meaning,
    )
    source, count, emotion, first, frames, options = words.groups()
    array = emotion.startswith("array")
    emotion = given("06", emotion.removeprefix("array ")) if array else json.loads(emotion)
    who = character("06/character", 1) if "'ch': True" in options else character(source, int(count))
    conditions = Conditions(who, emotion_rows(emotion), "'eye_f0_mode': True" in options)
    speech = torch.randn(int(frames), 1024)
    rows = conditions(speech, int(first))
    assert torch.equal(rows[:, :1024], speech)
    check(rows[:, 1024:], "06", case, t)


def test_rows_of_emotions():
    t, _ = fixture("06")
    found = [name for name in t if name.startswith("emotion_")]
    assert found
    for name in found:
        check(emotion_row([int(label) for label in name.split("_")[1:]]), "06", name, t)


def test_eyes():
    t, _ = fixture("06")
    landmarks = given("06", "06/landmarks478")
    check(eyes.openness(landmarks), "06", "eye_open", t)
    check(eyes.ball_vectors(landmarks), "06", "eye_ball", t)


def test_order_of_a_source_videos_frames():
    t, _ = fixture("06")
    recorded = t["mirror_index"].tolist()
    count = max(recorded) + 1
    assert [mirrored(i, count) for i in range(len(recorded))] == recorded
