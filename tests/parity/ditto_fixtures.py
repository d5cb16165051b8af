"""The Ditto fixture set: seeded weights and inputs, engine models made of them, and tolerances.

Every size and setting comes from the set's manifest and weight description, so another set of the same layout
works too.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import torch
from avatar.engines.ditto.appearance import AppearanceConfig, AppearanceExtractor
from avatar.engines.ditto.config import MotionModelConfig
from avatar.engines.ditto.crop import CropOptions
from avatar.engines.ditto.decoder import DecoderConfig, SpadeDecoder
from avatar.engines.ditto.lmdm import MotionModel
from avatar.engines.ditto.stitching import StitchingNetwork
from avatar.engines.ditto.warping import DenseMotionConfig, WarpingConfig, WarpingNetwork
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from torch import Tensor

from tests.parity import seeded
from tests.parity.reference import Recorded, has_fixture, manifest_entry, read_json, tensor_meaning, tensors

FAMILY = "ditto"
CROP = CropOptions()
"""How the reference lays the square around a portrait's landmarks."""


def manifest() -> dict[str, Any]:
    return read_json(FAMILY, "MANIFEST.json")


def weights() -> dict[str, Any]:
    return read_json(FAMILY, manifest()["weights"])


def seed() -> int:
    return manifest()["seed"]


def fixture(number: str) -> tuple[Recorded, Recorded]:
    """Tensors and settings of the fixture file whose name starts with ``number``."""
    entry = manifest_entry(FAMILY, number)
    return tensors(FAMILY, entry["file"]), Recorded(entry["file"], entry.get("values", {}))


def meaning(number: str, name: str) -> str:
    """What the manifest says about a tensor."""
    return tensor_meaning(FAMILY, number, name)


def cases(number: str, key: str) -> list[str]:
    """Names of the settings of a fixture file that are groups with ``key`` in them, for parametrised tests."""
    if not has_fixture(FAMILY, number):
        return []
    values = manifest_entry(FAMILY, number)["values"]
    return [name for name, value in values.items() if isinstance(value, dict) and key in value]


def given(number: str, name: str) -> Tensor:
    """An input that the manifest describes by scale and offset."""
    entry = manifest_entry(FAMILY, number)
    about = Recorded(entry["file"], entry["seeded_inputs"])[name]
    key = about["seeded_normal"]
    return drawn(key, about["shape"], about["scale"], about["offset"])


def drawn(key: str, shape: list[int] | tuple[int, ...], scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """A seeded input in float32."""
    values = seeded.normal(key, shape, seed()) * scale + offset
    return torch.from_numpy(np.asarray(values).astype(np.float32))


@functools.lru_cache(maxsize=8)
def state(name: str, size: str = "tiny") -> dict[str, Tensor]:
    """State dict of one network, ``size`` "tiny" or "full"."""
    spec = weights()
    files = spec["files"] if size == "tiny" else spec["full_size"]["files"]
    return seeded.seeded_state(Recorded(manifest()["weights"], files)[name], spec["seed"])


def loaded(model: torch.nn.Module, weights_: dict[str, Tensor]) -> Any:
    model.load_state_dict(weights_)
    return model.eval().requires_grad_(False)


@functools.lru_cache(maxsize=2)
def motion_model(size: str = "tiny") -> MotionModel:
    if size == "full":
        return loaded(MotionModel(), state("lmdm", "full"))
    c = weights()["configs"]["lmdm"]
    config = MotionModelConfig(
        c["nfeats"], c["cond_feature_dim"], c["latent_dim"], c["ff_size"], c["num_layers"], c["num_heads"]
    )
    return loaded(MotionModel(config), state("lmdm"))


@functools.lru_cache(maxsize=2)
def appearance_extractor(size: str = "tiny") -> AppearanceExtractor:
    if size == "full":
        return loaded(AppearanceExtractor(), state("appearance_extractor", "full"))
    c = weights()["configs"]["appearance_extractor"]
    names = (
        "block_expansion",
        "max_features",
        "num_down_blocks",
        "reshape_channel",
        "reshape_depth",
        "num_resblocks",
    )
    config = AppearanceConfig(*(c[name] for name in names))
    return loaded(AppearanceExtractor(config), state("appearance_extractor"))


@functools.lru_cache(maxsize=2)
def motion_extractor(size: str = "tiny") -> MotionExtractor:
    config = None
    if size == "tiny":
        c = weights()["configs"]["motion_extractor"]
        config = MotionExtractorConfig(tuple(c["depths"]), tuple(c["dims"]), c["num_kp"])
    model = MotionExtractor(config)
    return loaded(model, {**state("motion_extractor", size), "idx_tensor": model.idx_tensor})


@functools.lru_cache(maxsize=2)
def warping_network(size: str = "tiny") -> WarpingNetwork:
    if size == "full":
        return loaded(WarpingNetwork(), state("warp_network", "full"))
    c = weights()["configs"]["warp_network"]
    m = c["dense_motion"]
    dense = DenseMotionConfig(
        m["num_kp"],
        m["feature_channel"],
        m["reshape_depth"],
        m["compress"],
        m["block_expansion"],
        m["max_features"],
        m["num_blocks"],
    )
    channels = c["block_expansion"] * 2 ** c["num_down_blocks"]
    return loaded(WarpingNetwork(WarpingConfig(channels, dense)), state("warp_network"))


@functools.lru_cache(maxsize=2)
def decoder(size: str = "tiny") -> SpadeDecoder:
    if size == "full":
        return loaded(SpadeDecoder(), state("decoder", "full"))
    c = weights()["configs"]["decoder"]
    inputs = c["block_expansion"] * 2 ** c["num_down_blocks"]
    config = DecoderConfig(inputs, c["max_features"], c["out_channels"])
    return loaded(SpadeDecoder(config), state("decoder"))


@functools.lru_cache
def stitching_network() -> StitchingNetwork:
    return loaded(StitchingNetwork(), state("stitch_network"))


def picture(height: int, width: int, number: int = 0) -> Tensor:
    """One of the set's test pictures, uint8 ``[height, width, 3]``: smooth gradients with some texture."""
    random = np.random.RandomState((40009 + 7919 * (seed() + number)) & 0xFFFFFFFF)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = []
    for c in range(3):
        across, down, phase, shift = random.rand(4) * [0.08, 0.08, 6.28, 6.28]
        smooth = 90 * np.sin(across * x + phase) * np.cos(down * y + shift)
        channels.append(127 + smooth + 30 * np.sin(0.9 * x + 0.7 * y + c))
    return torch.from_numpy(np.clip(np.floor(np.stack(channels, -1)), 0, 255).astype(np.uint8))


def tolerance(number: str, name: str) -> tuple[float, float]:
    """Relative and absolute tolerance of a tensor, read from the manifest's words for its file."""
    stated = manifest_entry(FAMILY, number)["tolerance"]
    text = stated.get("default", "")
    for patterns, words in stated.items():
        for pattern in patterns.split(","):
            if re.match(re.escape(pattern.strip()).replace(r"\*", ".*"), name):
                text = words
    relative, absolute = (re.search(rf"{kind} ([\d.e-]+)", text) for kind in ("rtol", "atol"))
    assert relative or absolute, f"{number} states no tolerance for {name}: {text}"
    return tuple(float(found[1]) if found else 0.0 for found in (relative, absolute))


def thinned(x: Tensor, expected: Tensor) -> Tensor:
    """Every n-th value of each dimension, as far apart as in the recorded tensor."""
    steps = (-(-a // b) for a, b in zip(x.shape, expected.shape, strict=True))
    return x[tuple(slice(None, None, step) for step in steps)]


def first_directions(steps: int) -> list[float]:
    """What the first step's weight of the predicted noise may have been where the set was recorded.

    It is the root of what rounding leaves of 1 - 1, a few 2**-24, by the machine's square root.
    """
    found = []
    if has_fixture(FAMILY, "01") and f"c_{steps}" in fixture("01")[0]:
        found.append(fixture("01")[0][f"c_{steps}"][0].item())
    return found or [(k * 2**-24) ** 0.5 for k in range(4)]


def deviation(actual: Tensor, expected: Tensor, number: str, name: str) -> float:
    """The largest deviation from a recorded tensor, by what the manifest allows."""
    relative, absolute = tolerance(number, name)
    assert tuple(actual.shape) == tuple(expected.shape), (name, actual.shape, expected.shape)
    allowed = absolute + relative * expected.double().abs()
    difference = (actual.double() - expected.double()).abs()
    return torch.where(difference == 0, 0, difference / allowed).max().item()


def check(actual: Tensor, number: str, name: str, t: Recorded | None = None) -> None:
    """Fail unless ``actual`` agrees with a recorded tensor within the manifest's tolerance."""
    expected = (t or fixture(number)[0])[name]
    worst = deviation(actual, expected, number, name)
    assert worst <= 1, f"{name} deviates by {worst:.3g} times what is allowed"
