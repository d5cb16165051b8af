"""The fingerprint of a run: equal for equal runs, in every process and on every state of the host's memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from avatar.engines.liveavatar.config import S2VConfig, SamplingConfig
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.loaders.identity import device_identity, fingerprint
from avatar.loaders.liveavatar.conditioning import Condition
from avatar.loaders.liveavatar.fingerprint import run_fingerprint
from avatar.loaders.liveavatar.host_model import HostModel
from avatar.media.speech import Speech
from torch import nn

import tools.pack
from tests.unit.tiny_s2v import condition, track


@dataclass(frozen=True)
class Pair:
    one: int
    other: object


def test_values_of_every_kind_count():
    tensor = torch.arange(6.0).view(2, 3)
    values = [
        1,
        1.0,
        True,
        "1",
        None,
        [1],
        [[1]],
        {"a": 1},
        {"a": 2},
        {"b": 1},
        Pair(1, None),
        Pair(1, tensor),
        tensor,
        tensor.T.contiguous().view(2, 3),
        tensor.view(3, 2),
        tensor.bfloat16(),
        tensor.long(),
        torch.tensor(1.0),
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(1, 2) != fingerprint(2, 1)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_how_a_tensor_lies_in_memory_does_not_count():
    tensor = torch.randn(3, 5)
    assert fingerprint(tensor) == fingerprint(tensor.T.contiguous().T)
    row = torch.randn(1, 1, 5)
    assert fingerprint(row) == fingerprint(torch.stack((row, row), -1)[..., 0])


def test_a_long_sound_counts_to_its_last_sample():
    long = torch.zeros(1, 2, 5_000_000)
    changed = long.clone()
    changed[0, 1, -1] = 1e-6
    assert fingerprint(long) != fingerprint(changed)


def test_another_process_finds_the_same():
    code = (
        "import tools.pack, torch\n"
        "from avatar.loaders.identity import fingerprint\n"
        "print(fingerprint({'x': torch.arange(9.0), 'a': [1, None, 'text', 2.5]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tools.pack.ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == fingerprint({"x": torch.arange(9.0), "a": [1, None, "text", 2.5]})


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(TypeError, match="object has no fingerprint"):
        fingerprint(object())


def host_model(**patches: list) -> SimpleNamespace:
    """A MODEL as the host has it: weights, and patches [(strength, adapter, ...)] by key."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 3))
    found = {key.replace("_", "."): value for key, value in patches.items()}
    return SimpleNamespace(
        model=SimpleNamespace(diffusion_model=net, manual_cast_dtype=torch.float32),
        patches=found,
        object_patches={},
        object_patches_backup={},
        load_device=torch.device("cpu"),
    )


def lora(scale: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(weights=(scale * torch.ones(100, 4), torch.ones(4, 100), 2.0, None))


def described(model: SimpleNamespace) -> HostModel:
    return HostModel(model, S2VConfig(), 0, torch.float32, torch.device("cpu"))


def identity(model: SimpleNamespace) -> str:
    return fingerprint(described(model).identity())


def test_weights_and_loras_tell_models_apart():
    key = "diffusion_model.0.weight"
    plain, changed = host_model(), host_model()
    with torch.no_grad():
        changed.model.diffusion_model[1].weight += 0.1
    patched = [host_model() for _ in range(3)]
    patched[0].patches = {key: [(1.0, lora())]}
    patched[1].patches = {key: [(0.5, lora())]}
    patched[2].patches = {key: [(1.0, lora(2.0))]}
    assert len({identity(model) for model in (plain, changed, *patched)}) == 5
    assert identity(plain) == identity(host_model())


def test_a_patch_that_the_host_has_worked_into_the_weights_changes_nothing():
    model = host_model()
    model.patches = {"diffusion_model.0.weight": [(1.0, lora())]}
    before = identity(model)
    with torch.no_grad():
        model.model.diffusion_model[0].weight += 1
    assert identity(model) == before


def sound(loud: float) -> dict:
    return {"waveform": torch.full((1, 1, 100), loud), "sample_rate": 16_000}


def run(**changes: object) -> str:
    parts = {
        "model": described(host_model()),
        "vae": SimpleNamespace(model=nn.Conv2d(3, 3, 1).requires_grad_(False)),
        "condition": Condition(**condition(), pose=None),
        "speech": Speech.of([sound(0)]),
        "features": Tracks([track(2)]),
        "config": SamplingConfig(),
        "frames": 50,
        "rounding": [False, CacheFormat.MODEL],
    }
    nn.init.ones_(parts["vae"].model.weight)
    nn.init.ones_(parts["vae"].model.bias)
    return run_fingerprint(**{**parts, **changes})


def test_every_input_of_a_run_counts():
    other_format = replace(described(host_model()), dtype=torch.float16)
    changed = [
        {},
        {"model": other_format},
        {"condition": Condition(**condition(seed=1), pose=None)},
        {"condition": Condition(**condition(), pose=torch.zeros(1))},
        {"speech": Speech.of([sound(1)])},
        {"speech": Speech.of([sound(0), sound(1)])},
        {"speech": Speech.of([sound(1), sound(0)])},
        {"speech": Speech.of([sound(0.5), sound(0.5)])},
        {"speech": replace(Speech.of([sound(0)]), masks=torch.ones(1))},
        {"features": Tracks([track(2, seed=1)])},
        {"config": SamplingConfig(seed=1)},
        {"config": SamplingConfig(steps=3)},
        {"frames": 49},
        {"rounding": [True, CacheFormat.MODEL]},
        {"rounding": [False, CacheFormat.INT8]},
        {"decoder": SimpleNamespace(identity=lambda: ["one"])},
        {"decoder": SimpleNamespace(identity=lambda: ["other"])},
    ]
    assert len({run(**change) for change in changed}) == len(changed)
    assert run() == run()


def test_the_device_and_its_number_format_count():
    assert device_identity(torch.device("cpu"), torch.float32) != device_identity(
        torch.device("cpu"), torch.float16
    )
