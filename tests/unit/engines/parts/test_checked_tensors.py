"""Tensors that are read from a file with a checksum, piece by piece, into memory that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from avatar.engines.parts import checked_tensors, checksum
from avatar.engines.parts.checked_tensors import CheckedTensors
from avatar.engines.parts.saved_tensors import DTYPES, save_tensors
from safetensors.torch import load_file

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces that hold several tensors, tensors that lie in several pieces, and more pieces than there are places."""
    for module in (checksum, checked_tensors):
        monkeypatch.setattr(module, "PIECE", 1000)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (), (7, 11), (0, 4), (40, 50), (1, 1, 5), (2000,), (1,)]
    return {
        f"{dtype}.{i}": (100 * torch.randn(shape, generator=generator)).to(dtype)
        for dtype in DTYPES
        for i, shape in enumerate(shapes)
    }


@pytest.fixture
def path(tmp_path, tensors) -> Path:
    save_tensors(tmp_path / "file.safetensors", tensors, {"made": "here"})
    return tmp_path / "file.safetensors"


def read(path: Path) -> dict[str, torch.Tensor]:
    with CheckedTensors(path) as file:
        found = {name: torch.empty_like(tensor, device="cpu") for name, tensor in file.tensors.items()}
        file.read_into(found, CPU, lambda size: None)
    return found


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def test_every_bit_is_as_it_was(path, tensors):
    found = read(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(bits(found[name]), bits(tensor)), name


def test_it_is_an_ordinary_safetensors_file(path, tensors):
    stored = load_file(path)
    assert all(torch.equal(bits(stored[name]), bits(tensor)) for name, tensor in tensors.items())


def test_what_is_in_it_is_known_before_any_of_it_is_read(path, tensors):
    with CheckedTensors(path) as file:
        assert file.metadata == {"made": "here"}
        assert all(tensor.is_meta for tensor in file.tensors.values())
        assert {n: t.shape for n, t in file.tensors.items()} == {n: t.shape for n, t in tensors.items()}


def test_all_bytes_are_told(path, tensors):
    told = []
    with CheckedTensors(path) as file:
        file.read_into(tensors, CPU, told.append)
    assert sum(told) == path.stat().st_size - checksum.Checksum.size and set(told[:-1]) == {1000}


@pytest.mark.parametrize("place", [0, 9, 300, 0.3, 0.6, 0.999, -1])
def test_an_altered_byte_anywhere_is_noticed(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^file\.safetensors is damaged\.$"):
        read(path)


@pytest.mark.parametrize("left", [0, 1, 8, 100, 0.5, -1])
def test_a_file_that_is_cut_off_is_refused_before_it_is_read(path, left):
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(ValueError, match="is damaged"):
        CheckedTensors(path)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"__metadata__": {}},
        {"__metadata__": {}, "checksum": {"dtype": "U8", "shape": [32], "data_offsets": [0, 31]}},
        {"__metadata__": {}, "checksum": {"dtype": "X", "shape": [32], "data_offsets": [0, 32]}},
        {"__metadata__": {}, "checksum": {"dtype": "U8", "shape": [-32], "data_offsets": [0, 32]}},
        {"__metadata__": {}, "checksum": {"dtype": "U8", "shape": [1 << 62, 8], "data_offsets": [0, 32]}},
        {"__metadata__": {}, "checksum": {"dtype": "U8", "shape": "32", "data_offsets": [0, 32]}},
        {"__metadata__": 3, "checksum": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}},
    ],
    ids=str,
)
def test_a_header_that_says_something_else_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
    with pytest.raises(ValueError, match="is damaged"):
        CheckedTensors(path)


def test_memory_is_not_used_again_before_it_is_hashed(path, tensors, monkeypatch):
    begun, hashed = [], checksum._sha256
    monkeypatch.setattr(checksum, "THREADS", 1)
    for module in (checksum, checked_tensors):
        monkeypatch.setattr(module, "BEHIND", 3)

    def slow(parts):
        begun.append(bytes(parts[0][:1]))
        torch.zeros(300, 300) @ torch.zeros(300, 300)
        return hashed(parts)

    monkeypatch.setattr(checksum, "_sha256", slow)
    assert all(torch.equal(bits(t), bits(tensors[n])) for n, t in read(path).items())
    assert len(begun) > 9
