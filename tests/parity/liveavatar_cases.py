"""Reads the uniform cases of a LiveAvatar reference set (``cases.json``)."""

from __future__ import annotations

import functools

import pytest
import torch
from avatar.engines.liveavatar.config import S2VConfig
from avatar.engines.liveavatar.transformer import S2VTransformer

from tests.parity.reference import read_json, tensors

FAMILY = "liveavatar"


def cases(*kinds: str) -> list:
    """The set's cases of these kinds, as pytest parameters."""
    try:
        found = [case for case in read_json(FAMILY, "cases.json")["cases"] if case["kind"] in kinds]
    except pytest.skip.Exception:
        found = []
    return [pytest.param(case, id=f"{case['kind']}: {case['name']}") for case in found]


@functools.lru_cache(maxsize=1)
def transformer() -> S2VTransformer:
    """The set's transformer in float32."""
    description = read_json(FAMILY, "cases.json")
    model = S2VTransformer(S2VConfig.from_dict(description["config_dit"]))
    model.load_state_dict(tensors(FAMILY, description["files"]["dit"]))
    return model.eval()


def input_tensor(name: str) -> torch.Tensor:
    """A shared input by name, from whichever of the set's input files has it."""
    for file in read_json(FAMILY, "cases.json")["files"]["inputs"]:
        found = tensors(FAMILY, file)
        if name in found:
            return found[name]
    raise KeyError(name)
