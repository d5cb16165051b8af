"""Mouth shapes, drawn portraits, and the reader that finds the mouth in pixels again."""

from __future__ import annotations

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import numpy as np
import torch
from avatar.evaluation.correlation import lagged_correlation

from training import faces
from training.draw import render
from training.measure import openings
from training.motion import still, talking
from training.speech import Phoneme
from training.visemes import mouth_track


def test_mouth_opens_for_vowels_closes_for_lips_and_in_silence():
    rate = 16000
    phonemes = [Phoneme("ɑː", 0.0), Phoneme("m", 0.4), Phoneme("ɑː", 0.6), Phoneme("", 1.0)]  # noqa: RUF001
    sound = np.random.default_rng(0).integers(-9000, 9000, rate * 3 // 2).astype(np.int16)
    sound[rate:] = 0
    opening = mouth_track(phonemes, sound, rate)[:, 0]
    assert opening[20] > 0.8
    assert opening[80] > 0.8
    assert opening[50] < 0.15
    assert opening[115:].max() < 0.02


def test_a_crop_is_a_part_of_the_whole_picture():
    who = faces.sample(2, torch.Generator().manual_seed(1))
    whole = render(who, still(2, 1), 48)
    left, top = torch.tensor([3, 20]), torch.tensor([10, 5])
    part = render(who, still(2, 1), 48, (left, top, 16))
    for i in range(2):
        expected = whole[i, :, :, top[i] : top[i] + 16, left[i] : left[i] + 16]
        torch.testing.assert_close(part[i], expected, atol=1e-4, rtol=0)


def test_clips_from_rest_do_not_move_before_they_begin():
    motion = talking(
        torch.ones(2, 20, 3), torch.Generator().manual_seed(1), torch.tensor([True, False]), lead=9
    )
    assert all(value[0, :9].abs().max() == 0 for name, value in motion.items() if name not in ("dy", "brow"))
    assert motion["open"][1, 0] == 1


def test_reader_finds_the_drawn_opening():
    who = faces.sample(1, torch.Generator().manual_seed(4))
    motion = still(1, 12)
    motion["open"] = 0.5 - 0.5 * torch.cos(torch.arange(12) * 0.9)[None]
    motion["dx"] = torch.linspace(-0.02, 0.02, 12)[None]
    read = openings(render(who, motion, 96)[0], who, reach=3)
    score, lag = lagged_correlation(read, motion["open"][0], reach=2)
    assert score > 0.9
    assert lag == 0
