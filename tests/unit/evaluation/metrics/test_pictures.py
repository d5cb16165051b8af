"""Metrics of whole pictures, on videos whose values are known."""

from __future__ import annotations

import pytest
import torch
from avatar.evaluation.charts import charts_of
from avatar.evaluation.instruments import Subject
from avatar.evaluation.measure import measure
from avatar.evaluation.metric import Layout
from avatar.evaluation.picture import picture

from tests.unit.evaluation.videos import clip_of

NOISE = torch.randint(60, 180, (1, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def scores(frames: torch.Tensor, layout: Layout | None = None) -> dict:
    found = measure(clip_of(frames), Subject(layout=layout))
    return {one.metric.name: one for one in found.scores}


def test_a_repeated_frame_flickers_not_at_all():
    found = scores(NOISE.repeat(30, 1, 1, 1))
    assert found["T.Flicker"].value == 1
    assert found["colour drift"].value == 0
    assert found["sharpness drift"].value == 0


def test_flicker_is_the_mean_difference():
    frames = NOISE.repeat(21, 1, 1, 1)
    frames[1::2] += 51
    assert scores(frames)["T.Flicker"].value == pytest.approx(1 - 51 / 255)
    assert scores(frames)["T.Flicker"].verdict == "fail"


@pytest.mark.parametrize("first", [0, 9])
def test_a_seam_is_found_at_its_block_border(first):
    """Frames change by 1 inside a latent, by 2 between latents, by 7 between blocks."""
    level, frames = 0, []
    for number in range(120):
        place = number - first
        step = 7 if place % 12 == 0 else 2 if place % 4 == 0 else 1
        level += step if number else 0
        level = level if level < 150 else level - 150
        frames.append(torch.full((8, 8, 3), level, dtype=torch.uint8))
    found = scores(torch.stack(frames)[:40], Layout(12, 4, first))
    assert found["change inside latents"].value == 1
    assert found["change between latents"].value == 2
    assert found["change between blocks"].value == 7
    assert found["block border"].value == 3.5
    assert found["block border"].verdict == "fail"


def test_without_a_layout_seams_are_skipped_with_the_remedy():
    assert "--blocks" in scores(NOISE.repeat(30, 1, 1, 1))["block border"].skipped


def test_a_drifting_colour_drifts():
    frames = NOISE.repeat(100, 1, 1, 1).clone()
    frames[..., 0] = (frames[..., 0].float() + torch.linspace(0, 50, 100)[:, None, None]).to(torch.uint8)
    found = scores(frames)
    assert 30 < found["colour drift"].value < 50


def test_a_picture_that_gets_softer_loses_sharpness():
    soft = torch.nn.functional.avg_pool2d(NOISE.permute(0, 3, 1, 2).float(), 3, 1, 1).permute(0, 2, 3, 1)
    share = torch.linspace(0, 1, 100)[:, None, None, None]
    frames = (NOISE * (1 - share) + soft * share).round().to(torch.uint8)
    found = scores(frames)
    assert found["sharpness drift"].value < -25
    assert found["sharpness drift"].verdict == "fail"


def test_one_frame_is_measured_as_far_as_it_can_be():
    found = scores(NOISE)
    assert found["sharpness"].value > 0
    assert found["T.Flicker"].skipped == "A single frame does not flicker."
    assert found["colour drift"].value is None
    assert found["sharpness drift"].value is None
    alone = measure(clip_of(NOISE))
    assert charts_of(alone) == []
    assert picture(charts_of(alone)).width > 0


def test_a_layout_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        Layout(12, 5)
