"""The LongCat fixture set: networks made of its weights, its cases and runs, and its tolerances.

Every size, setting and name comes from the set's manifest, so another set of the same layout works too.
"""

from __future__ import annotations

import functools
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest
from avatar.engines.longcat.config import LongCatConfig
from avatar.engines.longcat.transformer import LongCatTransformer
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan
from torch import Tensor

from tests.parity.reference import read_json, tensors

FAMILY = "longcat"
RATE = 16000


def manifest() -> dict[str, Any]:
    return read_json(FAMILY, "MANIFEST.json")


def listed(*path: str) -> list:
    """Entries of the manifest at ``path`` as pytest parameters; none where there is no set."""
    try:
        found = manifest()
    except pytest.skip.Exception:
        return []
    for name in path:
        found = found.get(name, [])
    return [pytest.param(entry, id=_name(entry)) for entry in found]


def _name(entry: Any) -> str:
    if isinstance(entry, dict):
        return str(entry.get("name") or entry.get("tag") or entry.get("file") or list(entry.values()))
    return "-".join(map(str, entry))


def tensor(file: str, name: str) -> Tensor:
    """A tensor of the set, or a skip that names it."""
    found = tensors(FAMILY, file)
    if name not in found:
        pytest.skip(f"the reference set has no {name} in {FAMILY}/{file}")
    return found[name]


def file_of(number: str) -> str:
    """The name of the file that begins with ``number``, or a skip."""
    for entry in manifest()["files"]:
        if entry["file"].startswith(number):
            return entry["file"]
    pytest.skip(f"the reference set has no {FAMILY} file {number}")


def close(actual: Tensor, file: str, name: str) -> None:
    """Fail unless ``actual`` is the stored tensor within the set's tolerance, relative to its largest value."""
    expected = tensor(file, name)
    assert actual.shape == expected.shape, f"{name}: {list(actual.shape)} != {list(expected.shape)}"
    rules = next(entry["tolerance"] for entry in manifest()["files"] if entry["file"] == file)
    limit = next((rules[rule] for rule in rules if fnmatch(name, rule)), rules["default"])
    largest = expected.double().abs().max().clamp(min=1e-12)
    error = ((actual.double() - expected.double()).abs().max() / largest).item()
    assert error <= limit, f"{name} deviates by {error:.3g}, allowed {limit:.3g}"


def config(name: str, **changed: Any) -> LongCatConfig:
    return LongCatConfig.from_dict(manifest()["configs"][name] | changed)


@functools.lru_cache
def transformer(name: str, weights: str, zero_pad: bool = True) -> LongCatTransformer:
    """A transformer in float32; nobody may change it."""
    return fresh_transformer(name, weights, zero_pad)


def fresh_transformer(name: str, weights: str, zero_pad: bool = True, **changed: Any) -> LongCatTransformer:
    """A transformer in float32 that may be changed."""
    model = LongCatTransformer(config(name, text_tokens_zero_pad=zero_pad, **changed))
    model.load_state_dict(tensors(FAMILY, weights))
    return model.eval().requires_grad_(False)


@functools.lru_cache
def vae() -> WanVAE:
    """The set's autoencoder in float32."""
    model = AutoencoderKLWan(**manifest()["configs"]["vae"])
    model.load_state_dict(tensors(FAMILY, file_of("weights_vae")))
    return WanVAE(model.eval().requires_grad_(False))


def speech(seconds: float, seed: int) -> np.ndarray:
    """The waveform that the set's speech fixtures were made from, float32 at 16 kHz: voiced syllables with pauses."""
    time = np.arange(round(seconds * RATE)) / RATE
    draw = np.random.RandomState(seed & 0x7FFFFFFF)
    turn = 2 * np.pi
    pitch = 110.0 + 40.0 * draw.rand()
    pitch = pitch + 25.0 * np.sin(turn * (0.4 + 0.5 * draw.rand()) * time + 6.28 * draw.rand())
    phase = turn * np.cumsum(pitch) / RATE
    voice = np.zeros(len(time))
    for harmonic in range(1, 13):
        start = 6.28 * draw.rand()
        voice += np.sin(harmonic * phase + start) * (0.3 + draw.rand()) / harmonic
    rate = 2.6 + draw.rand()
    syllables = np.clip(np.sin(turn * rate * time + 6.28 * draw.rand()), 0.0, None) ** 0.7
    phrases = (np.sin(turn * 0.31 * time + 6.28 * draw.rand()) > -0.6).astype(np.float64)
    hiss = draw.standard_normal(len(time))
    return (0.16 * voice * syllables * phrases + 0.004 * hiss).astype(np.float32)
