"""Where the reference fixtures lie, and how they are read.

``AVATAR_REFERENCE_DIR`` names a folder with ``liveavatar/`` and ``personalive/`` in it; the default is
``tests/reference``. A fixture file that a set lacks skips the tests that need it, by name.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

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


def tensors(family: str, file: str) -> dict[str, torch.Tensor]:
    """All tensors of a fixture file; floating and 8-bit storage types upcast to float32, other integers kept."""
    path = reference_dir(family) / file
    if not path.is_file():
        pytest.skip(f"the reference set has no {family}/{file}")
    return _read(path)


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor.float() if tensor.is_floating_point() or tensor.dtype == torch.uint8 else tensor
        for name, tensor in load_file(path).items()
    }


def read_json(family: str, file: str) -> dict:
    """A JSON file of the set, or a skip."""
    path = reference_dir(family) / file
    if not path.is_file():
        pytest.skip(f"the reference set has no {family}/{file}")
    return json.loads(path.read_text())


def assert_close(actual: torch.Tensor, expected: torch.Tensor, max_abs_error: float) -> float:
    """Fail unless shapes agree and the largest absolute difference is within the tolerance; returns it."""
    assert tuple(actual.shape) == tuple(expected.shape), (
        f"shape {tuple(actual.shape)} != {tuple(expected.shape)}"
    )
    error = (actual.float() - expected.float()).abs().max().item()
    assert error <= max_abs_error, f"max abs error {error:.3g} > {max_abs_error:.3g}"
    return error
