"""Output size and reference-image preparation against the LiveAvatar reference: exact."""

from __future__ import annotations

import pytest
import torch
from avatar.media.portrait import AREAS, fit_size, prepare_portrait

import tools.pack  # noqa: F401

from .reference import read_json, tensors


@pytest.fixture(scope="module")
def facts() -> dict:
    extra = read_json("liveavatar", "manifest.json").get("extra", {})
    if "item10" not in extra:
        pytest.skip("the reference set has no geometry facts (item10)")
    return extra["item10"]


def test_area_caps(facts):
    assert facts["MAX_AREA_CONFIGS"] == AREAS


def test_size_rule_on_all_cases(facts):
    wrong = {
        (case["height"], case["width"], case["area"]): size
        for case in facts["cases"]
        if list(size := fit_size(case["height"], case["width"], case["area"])) != case["out"]
    }
    assert facts["cases"] and not wrong


def test_resize_and_crop_are_bit_exact(facts):
    pixels = tensors("liveavatar", "geometry.safetensors")
    for index, case in enumerate(facts["resize_crop"]):
        source, expected = pixels[f"img{index}.in"], pixels[f"img{index}.out"]
        width, height = case["image_wh"]
        assert list(source.shape[:2]) == [height, width]
        assert list(fit_size(height, width, case["area"])) == case["target_hw"]
        out = prepare_portrait(source[None] / 255, *case["target_hw"], fit="reference")
        assert torch.equal((out[0] * 255).round(), expected), f"image {index}"


def test_cover_differs_only_by_the_missing_border(facts):
    """The first fixture image is padded by the reference; cover fills that border with picture."""
    pixels = tensors("liveavatar", "geometry.safetensors")
    case = facts["resize_crop"][0]
    bordered = prepare_portrait(pixels["img0.in"][None] / 255, *case["target_hw"], fit="reference")
    covered = prepare_portrait(pixels["img0.in"][None] / 255, *case["target_hw"])
    border = int(-case["crop_or_pad_top"])
    assert bordered[:, :border].max() == 0
    assert covered[:, :border].mean() > 0.1
