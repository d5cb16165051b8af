"""Sync without weights finds the shift that is there, and nothing where there is none."""

from __future__ import annotations

import pytest
import torch
from avatar.evaluation.correlation import correlation, lagged_correlation
from avatar.evaluation.instruments import Subject
from avatar.evaluation.measure import measure
from avatar.evaluation.metrics.sync import windows

from tests.unit.evaluation.videos import clip_of, faces, regions, syllables, voice

SECONDS = 12


def scores(opening: torch.Tensor, level: torch.Tensor, fps: float = 25) -> dict:
    found = measure(clip_of(faces(opening), voice(level, fps), fps), Subject(regions=regions()))
    return {one.metric.name: one for one in found.scores}


@pytest.mark.parametrize("late", [-5, 0, 3])
def test_a_shifted_mouth_is_found_at_its_shift(late):
    level = syllables(SECONDS, 1)
    found = scores(level.roll(late), level)
    assert found["sync offset"].value == late
    assert found["sync r"].value > 0.7
    assert found["sync offset"].verdict == {-5: "fail", 0: "good", 3: "warn"}[late]


def test_another_frame_rate_gives_the_same_shift():
    level = syllables(SECONDS, 1)
    assert scores(level.roll(2), level, fps=30)["sync offset"].value == 2


def test_a_frozen_face_has_no_sync():
    found = scores(torch.full((SECONDS * 25,), 0.5), syllables(SECONDS, 1))
    assert found["sync r"].value == 0
    assert found["sync r"].verdict == "fail"
    assert found["sync offset"].value is None
    assert "Nothing in the mouth's box" in found["sync offset"].skipped


def test_where_nobody_speaks_there_is_no_sync_to_measure():
    found = scores(syllables(SECONDS, 1), torch.zeros(SECONDS * 25))
    for name in ("sync r", "sync r unshifted", "sync offset"):
        assert found[name].value is None and found[name].skipped.startswith("Nobody speaks in this sound")


@pytest.mark.parametrize("seed", range(2, 7))
def test_wrong_voices_and_reversed_sound_have_less(seed):
    level, other = syllables(SECONDS, 1), syllables(SECONDS, seed)
    right = scores(level, level)["sync r"].value
    assert scores(level, other)["sync r"].value < right / 2
    assert scores(level, level.flip(0))["sync r"].value < right / 2


def test_each_window_has_its_own_shift():
    level = syllables(8, 1)
    opening = torch.cat([level[:100], level.roll(4)[100:]])
    found = measure(clip_of(faces(opening), voice(level)), Subject(regions=regions()))
    assert [offset for _, _, offset in windows(found.seen)] == [0, 4]


def test_few_frames_and_missing_sound_are_said():
    level = syllables(1, 1)
    short = scores(level, level)
    assert "33 frames or more" in short["sync r"].skipped
    silent = measure(clip_of(faces(level)), Subject(regions=regions()))
    reasons = {one.metric.name: one.skipped for one in silent.scores}
    assert reasons["sync r"] == "The video has no sound."


def test_correlation_is_that_of_pearson():
    a, b = torch.randn(2, 50)
    assert correlation(a, b) == pytest.approx(float(torch.corrcoef(torch.stack([a, b]))[0, 1]), abs=1e-6)
    assert lagged_correlation(a.roll(2), a)[1] == 2
