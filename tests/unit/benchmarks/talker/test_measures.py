"""The talker's measures on videos whose faults are known: drawn people, and what was done to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip(
    "skia", reason="needs skia-python and the libraries libEGL and libGL", exc_type=ImportError
)

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.talker import people as held
from benchmarks.talker.measures import joints, lips, looks, strangeness
from benchmarks.talker.people import Speaking
from training.figures.figure import Figure
from training.figures.measure import Reader
from training.figures.motion import talking
from training.figures.person import person
from training.figures.pose import still

SIZE, FRAMES = 96, 100
WORDS = ([0.9, 0.1, 0.0], [0.1, 0.2, 0.6], [0.6, -0.6, 0.0], [0.0, 0.0, 0.0])


def somebody(seed: int, style: str) -> Speaking:
    """A drawn person who says syllables of 3 to 8 frames, with a long pause and blinks."""
    draw = np.random.default_rng(seed)
    shapes = np.concatenate([np.tile(WORDS[draw.integers(4)], (draw.integers(3, 9), 1)) for _ in range(40)])
    shapes = shapes[:FRAMES]
    pause = int(draw.integers(20, 80))
    shapes[pause : pause + 15] = 0
    motion = talking(shapes, draw, "calm", lead=0)
    motion["blink"][[20, 21, 22, 62, 63]] = 1.0
    who = person(seed, style)
    figure = Figure(who, SIZE)
    portrait = torch.from_numpy(figure.frames(still(1))).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    drawn = torch.from_numpy(figure.frames(motion))
    opening = torch.from_numpy(motion["open"]).float()
    return Speaking(
        "English", who, torch.zeros(1), opening, portrait, drawn, Reader(who, SIZE, count=200, seed=1)
    )


@pytest.fixture(scope="module")
def people() -> list[Speaking]:
    return [somebody(3, "flat"), somebody(5, "soft")]


@pytest.fixture(scope="module")
def drawn(people) -> list[torch.Tensor]:
    return [one.drawn for one in people]


def blurred(video: torch.Tensor) -> torch.Tensor:
    pixels = F.avg_pool2d(video.permute(0, 3, 1, 2).float(), 5, 1, 2, count_include_pad=False)
    return pixels.permute(0, 2, 3, 1).round().to(torch.uint8)


def test_a_drawn_mouth_follows_its_speech_and_nobody_elses(people, drawn):
    found = lips(people, drawn)
    assert found["lip sync"] > 0.9
    assert found["lags (frames)"] == [0, 0]
    assert found["with somebody else's speech"] < 0.5
    assert found["opening in pauses"] < 0.1 < 0.4 < found["opening where speech opens it"]


def test_a_late_mouth_is_found_at_its_lag_and_a_frozen_one_has_no_sync(people, drawn):
    assert lips(people, [video.roll(3, 0) for video in drawn])["lags (frames)"] == [3, 3]
    frozen = lips(people, [video[:1].expand_as(video) for video in drawn])
    assert frozen["lip sync"] == pytest.approx(0, abs=1e-3)


def test_a_seam_stands_at_the_borders_of_blocks_alone(drawn):
    video = drawn[0].clone()
    for border in range(9, FRAMES, 24):  # every other block is brighter
        video[border : border + 12] = video[border : border + 12].clamp(max=235) + 20
    before, after = joints(drawn[0]), joints(video)
    assert after["change between blocks"] > before["change between blocks"] + 10
    same = "change between latents of a block", "change inside latents"
    assert [after[name] for name in same] == pytest.approx([before[name] for name in same], abs=1)


def test_blurred_eyes_are_softer_than_drawn_ones_and_blurred_blinks_are_told_apart(people, drawn):
    open_eyes, blinks = "sharpness of open eyes, of 1", "sharpness of eyes in blinks, of 1"
    sharp = looks(people, drawn)
    assert sharp[open_eyes] == pytest.approx(1, abs=0.12)
    assert sharp[blinks] == pytest.approx(1, abs=0.2)
    smeared = [video.clone() for video in drawn]
    for one, video in zip(people, smeared, strict=True):
        shut = one.reader.blink(one.drawn.permute(0, 3, 1, 2).float() / 127.5 - 1) > 0.4
        video[shut] = blurred(video[shut])
    found = looks(people, smeared)
    assert found[blinks] < 0.75 * sharp[blinks]
    assert found[open_eyes] > 0.8 * sharp[open_eyes]  # some smeared lids are read as open
    soft = looks(people, [blurred(video) for video in drawn])
    assert soft["sharpness of later frames"] < 0.7 * sharp["sharpness of later frames"]


def test_eyes_that_stay_open_have_no_sharpness_in_blinks(people, drawn):
    class Awake:
        def blink(self, video):
            return torch.zeros(len(video))

        def kept(self, video):
            return torch.ones(len(video))

    found = looks([replace(one, reader=Awake()) for one in people], drawn)
    assert found["sharpness of eyes in blinks, of 1"] is None
    assert found["sharpness of open eyes, of 1"] == 1


def test_a_person_is_nearer_to_the_own_drawings_than_others_and_drifting_colours_are(people):
    one, other = people
    own = strangeness(one, one.drawn[::10])
    assert strangeness(one, other.drawn[::10])["to the nearest drawing"] > 3 * own["to the nearest drawing"]
    tinted = one.drawn[::10].float()
    tinted[..., 0] += 24
    drifted = strangeness(one, tinted.clamp(0, 255).to(torch.uint8))
    assert drifted["to the nearest drawing"] > own["to the nearest drawing"] + 4
    assert drifted["to the portrait"] > own["to the portrait"] + 3


def test_people_and_voices_are_held_out():
    from training import corpus

    assert held.FIRST_SEED >= 2**31  # `figures.clips` draws smaller seeds
    assert set(corpus.HELD_OUT_VARIANTS).isdisjoint(corpus._VARIANTS)
    assert set(held.TEXTS) == {"English", "Spanish", "Mandarin"}
    assert len(corpus.HELD_OUT_VARIANTS) >= sum(map(len, held.TEXTS.values()))
