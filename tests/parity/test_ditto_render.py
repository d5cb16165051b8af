"""Ditto's renderer against the recorded reference, as it is published and folded for inference."""

from __future__ import annotations

import copy

import pytest
import torch
from avatar.engines.ditto.folding import channels_last, fold

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, fixture, given, thinned

SIZES = ["tiny", "full"]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def recorded(name, size):
    return name if size == "tiny" else f"full_{name}"


def compare(value, name, size):
    t, _ = fixture("09")
    name = recorded(name, size)
    if name in t:
        check(thinned(value, t[name]), "09", name, t)


def portrait():
    return fx.picture(256, 256).permute(2, 0, 1)[None].float() / 255


def keypoints():
    source = given("09", "kp_source")
    return source, source + 0.2 * given("09", "kp_driving")


@pytest.mark.parametrize("size", SIZES)
def test_motion_extractor(size):
    t, _ = fixture("09")
    for name, value in fx.motion_extractor(size).heads(portrait()).items():
        check(value, "09", recorded(name, size), t)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("folded", [False, True])
def test_a_portrait_is_moved_and_painted(size, folded):
    _, values = fixture("09")
    ready = (
        (lambda network: channels_last(fold(copy.deepcopy(network)))) if folded else (lambda network: network)
    )
    volume = ready(fx.appearance_extractor(size))(portrait())
    warping = ready(fx.warping_network(size))
    motion = warping.dense_motion_network(volume, *keypoints())
    feature = warping(volume, *keypoints())
    image = ready(fx.decoder(size))(feature)
    made = {"f_s": volume, "warped": feature, "image": image}
    parts = {"deformation": motion.deformation, "mask": motion.mask, "occlusion": motion.occlusion}
    for name, value in {**made, **parts}.items():
        compare(value, name, size)
    for name, value in made.items():
        assert list(value.shape) == values[recorded("sizes", size)][name]
        assert value.mean().item() == pytest.approx(values[recorded("means", size)]["value"][name], abs=1e-4)


@pytest.mark.parametrize("folded", [False, True])
def test_a_small_map_is_painted(folded):
    """Its sides differ, so rows are not taken for columns."""
    t, _ = fixture("09")
    decoder = fx.decoder()
    if folded:
        decoder = channels_last(fold(copy.deepcopy(decoder)))
    check(decoder(given("09", "decoder_feature")), "09", "small_image", t)


def test_a_batch_of_frames_is_what_single_frames_are():
    fixture("09")
    volume = fx.appearance_extractor()(portrait())
    source, driving = keypoints()
    drivings = torch.cat([driving, source, driving + 0.05])
    network = fx.warping_network()
    single = torch.cat([network(volume, source, part) for part in drivings.split(1)])
    assert torch.allclose(network(volume, source, drivings), single, atol=1e-5)
