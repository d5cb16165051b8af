"""Ditto's crops and paste-back against the recorded reference."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from avatar.engines.ditto.crop import CropOptions, crop_matrix, cut, fitting_size, halve, transform
from avatar.engines.ditto.paste import Paste, blending_mask

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import fixture, thinned

MATRIX = (1e-4, 2e-3)  # relative and in pixels
NAMES = {"dsize": "side", "scale": "scale", "vy_ratio": "rise", "flag_do_rot": "rotate"}


def near(actual, expected, relative, absolute, name):
    worst = ((actual - expected).abs() / (absolute + relative * expected.abs())).max()
    assert worst <= 1, f"{name} deviates by {worst:.3g} times what is allowed"


def near_picture(actual, expected, name):
    """OpenCV, which the reference uses, interpolates with weights of 1/32 pixel."""
    assert actual.shape == expected.shape, name
    difference = (actual.float() - expected).abs()
    assert difference.mean() < 0.25, name
    assert difference.max() <= 8, name


def crops():
    """Every set of landmarks with every kind of crop."""
    if not fx.has_fixture(fx.FAMILY, "10"):
        return []
    entry = fx.manifest_entry(fx.FAMILY, "10")
    counts = [n for n in entry["tensors"] if re.fullmatch(r"lm\d+", n)]
    return [(lm, kind) for lm in counts for kind in entry["values"]["options"]]


def options(kind):
    given = fixture("10")[1]["options"][kind]
    return CropOptions(**{NAMES[name]: value for name, value in given.items()})


def picture():
    return fx.picture(*fixture("10")[1]["picture"]["value"])


@pytest.mark.parametrize(("landmarks", "kind"), crops())
def test_crop(landmarks, kind):
    t, _ = fixture("10")
    points = t[landmarks].numpy()
    matrix = crop_matrix(points, options(kind))
    made = {
        "o2c": torch.from_numpy(matrix).float(),
        "c2o": torch.from_numpy(np.linalg.inv(matrix)).float(),
    }
    for name, value in made.items():
        near(value, t[f"{landmarks}_{kind}_{name}"], *MATRIX, name)
    if f"{landmarks}_{kind}_points" in t:
        inside = torch.from_numpy(transform(points.astype(np.float64), matrix)).float()
        near(inside, t[f"{landmarks}_{kind}_points"], 0, 5e-3, "points")
    if f"{landmarks}_{kind}_picture" in t:
        near_picture(cut(picture(), matrix, options(kind).side), t[f"{landmarks}_{kind}_picture"], kind)


def test_squares_that_the_networks_see():
    t, _ = fixture("10")
    square = cut(picture(), crop_matrix(t["lm203"].numpy(), fx.CROP))
    near_picture(thinned(square, t["face_crop_512"]), t["face_crop_512"], "512")
    near_picture(thinned(halve(square), t["face_crop_256"]), t["face_crop_256"], "256")


def test_blending_mask():
    t, values = fixture("10")
    mask = blending_mask()
    assert mask.double().sum().item() == pytest.approx(values["mask_sum"], rel=1e-6)
    corner = t["mask_corner"]
    near(mask[: len(corner), : corner.shape[1]], corner, 0, 1e-6, "corner")
    rows = [int(n) for n in re.findall(r"\d+", fx.meaning("10", "mask_rows").partition("of")[0])]
    near(mask[rows], t["mask_rows"], 0, 1e-6, "rows")


@pytest.mark.parametrize("name", ["pasted", "pasted_fast"])
def test_paste(name):
    t, _ = fixture("10")
    paste = Paste(picture(), crop_matrix(t["lm203"].numpy(), fx.CROP))
    rendered = fx.picture(512, 512, 1).float() * 0.97 + 1.3
    frames = paste.frames(paste.patches(rendered.permute(2, 0, 1)[None] / 255))
    near_picture(frames[0], t[name], name)


def test_sizes_of_pictures():
    t, _ = fixture("10")
    longest = int(re.search(r"longest side of (\d+)", fx.meaning("10", "sizes"))[1])
    for height, width, new_height, new_width in t["sizes"].tolist():
        assert fitting_size(height, width, longest) == (new_height, new_width)
