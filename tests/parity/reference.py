"""Where the reference fixtures lie, and how they are read.

``AVATAR_REFERENCE_DIR`` names a folder with a folder per family (``liveavatar``, ``personalive``, ``ditto``); the
default is ``tests/reference``. What a set lacks, a file, a tensor or a setting, skips the tests that need it, by name.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file


def reference_dir(family: str) -> Path:
    """The folder of one family's fixtures; skips the calling test when the set has none."""
    root = os.environ.get("AVATAR_REFERENCE_DIR")
    folder = (Path(root) if root else Path(__file__).resolve().parents[1] / "reference") / family
    if not folder.is_dir():
        pytest.skip(f"the reference set has no {family} fixtures")
    return folder


class Recorded(dict):
    """Something recorded by name; asking for a name that the set lacks skips the calling test."""

    def __init__(self, source: str, items: dict[str, Any]):
        super().__init__(items)
        self.source = source

    def __missing__(self, name: str) -> NoReturn:
        pytest.skip(f"{self.source} of the reference set has no {name}")


def tensors(family: str, file: str) -> Recorded:
    """All tensors of a fixture file; floating and 8-bit storage types upcast to float32, other integers kept."""
    path = reference_dir(family) / file
    if not path.is_file():
        pytest.skip(f"the reference set has no {family}/{file}")
    return _read(path)


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> Recorded:
    items = {
        name: tensor.float() if tensor.is_floating_point() or tensor.dtype == torch.uint8 else tensor
        for name, tensor in load_file(path).items()
    }
    return Recorded(f"{path.parent.name}/{path.name}", items)


def read_json(family: str, file: str) -> dict:
    """A JSON file of the set, or a skip."""
    path = reference_dir(family) / file
    if not path.is_file():
        pytest.skip(f"the reference set has no {family}/{file}")
    return json.loads(path.read_text())


def manifest_entry(family: str, number: str) -> Recorded:
    """What the set's manifest says about the fixture file whose name starts with ``number``, or a skip."""
    found = [f for f in read_json(family, "MANIFEST.json")["fixtures"] if f["file"].startswith(number)]
    if not found:
        pytest.skip(f"the reference set has no {family}/{number}_*.safetensors")
    return Recorded(f"the manifest's entry {number}", found[0])


def tensor_meaning(family: str, number: str, name: str) -> str:
    """What the manifest says about a tensor, or a skip."""
    entry = manifest_entry(family, number)
    return Recorded(f"the manifest's entry {number}", entry["tensors"])[name]["meaning"]


def has_fixture(family: str, number: str) -> bool:
    """Whether the set has the file; for the collection of tests, where nothing can be skipped yet."""
    try:
        return (reference_dir(family) / manifest_entry(family, number)["file"]).is_file()
    except pytest.skip.Exception:
        return False


def assert_close(actual: torch.Tensor, expected: torch.Tensor, max_abs_error: float) -> float:
    """Fail unless shapes agree and the largest absolute difference is within the tolerance; returns it."""
    assert tuple(actual.shape) == tuple(expected.shape), (
        f"shape {tuple(actual.shape)} != {tuple(expected.shape)}"
    )
    error = (actual.float() - expected.float()).abs().max().item()
    assert error <= max_abs_error, f"max abs error {error:.3g} > {max_abs_error:.3g}"
    return error
