"""Texts name moods, and the encoder that is shipped with the talker keeps them apart."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip(
    "skia", reason="needs skia-python and the libraries libEGL and libGL", exc_type=ImportError
)

from training.figures.motion import MOODS as FACES
from training.pool import MOODS, Encoded, condition_of
from training.texts import TEXT_DIM, encode, sentences

EMOTIONS = ("serious", "stern", "grave", "frown", "smil", "happ", "cheerful", "laugh", "amused", "delighted")


@pytest.fixture(scope="module")
def texts():
    return encode("cpu", MOODS, most=40)


def test_every_face_has_its_texts():
    assert set(MOODS) == set(FACES)
    for mood in MOODS:
        for text in sentences(mood):
            assert any(word in text.lower() for word in EMOTIONS) == (mood != "calm"), text


def test_no_text_stands_for_two_moods():
    seen = [set(sentences(mood)) for mood in MOODS]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_encoded_texts_of_two_moods_differ_more_than_rounding(texts):
    assert texts.rows.shape[:2] == (4, 40)
    assert texts.rows.shape[3] == TEXT_DIM
    pooled = texts.rows.sum(2) / texts.count[..., None]
    flat = pooled.flatten(0, 1)
    label = torch.arange(4).repeat_interleave(40)
    # A linear reading of the mean row already finds nearly all moods.
    x = torch.cat([flat, torch.ones(len(flat), 1)], 1).double()
    wanted = torch.nn.functional.one_hot(label, 4).double()
    weights = torch.linalg.solve(x.T @ x + 1e-4 * torch.eye(TEXT_DIM + 1, dtype=torch.double), x.T @ wanted)
    assert ((x @ weights).argmax(1) == label).double().mean() > 0.8


def test_a_clip_gets_a_text_of_its_mood(texts):
    torch.manual_seed(0)
    count = 64
    mood = torch.arange(4).repeat(count // 4)
    clips = Encoded(
        clean=torch.zeros(count, 16, 3, 4, 4),
        rest=torch.zeros(count, 16, 4, 4, 4),
        features=torch.zeros(count, 25, 2, 12),
        weight=torch.ones(count, 1, 1, 4, 4),
        from_rest=torch.ones(count, dtype=torch.bool),
        mood=mood,
    )
    given = condition_of(clips, texts)
    found = []
    for row, rows in zip(given.text, given.text_rows, strict=True):
        same = (texts.rows - row).abs().flatten(2).amax(2) < 1e-6
        found.append(same.any(1).nonzero().flatten().tolist())
        assert not found[-1] or rows in texts.count[same]
    for wanted, moods in zip(mood.tolist(), found, strict=True):
        assert moods == [wanted] or (wanted == 0 and not moods)
    unheard = sum(not moods for moods in found)
    assert 0 < unheard < count // 4
