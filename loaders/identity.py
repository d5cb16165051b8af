"""Hashes of everything that decides a video, by which a later process knows the same video again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAMPLES, LENGTH = 4, 4
"""Number of short runs of values that are looked at in every weight."""
PIECE = 1 << 22  # values
END_BYTES = 1 << 20
"""Bytes at each end of a file that are hashed to tell it from others."""


def fingerprint(*parts: Any) -> str:
    """A hash of numbers, texts, None, tensors (every value), and of dataclasses, mappings and sequences of them."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()


def device_identity(device: torch.device, dtype: torch.dtype) -> list[str]:
    """The circumstances that decide a run's bits: kind of device, number format, version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return [device.type, name, str(dtype), torch.__version__]


def weights_identity(named: Iterable[tuple[str, Tensor]], dtype: torch.dtype = torch.float32) -> list[Any]:
    """Name, shape and a few values of every weight, as they are in ``dtype``: a host may keep the file's format until a
    weight is loaded."""
    return [[name, _look_at(weight, dtype)] for name, weight in named]


def file_identity(path: Path) -> list[Any]:
    """Name, size and a hash of both ends of a weight file."""
    digest, size = hashlib.blake2b(digest_size=16), path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(END_BYTES))
        file.seek(max(0, size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return [path.name, size, digest.hexdigest()]


def _look_at(weight: Tensor, dtype: torch.dtype = torch.float32) -> list[Any]:
    flat = weight.detach().reshape(-1)
    last = max(0, flat.numel() - LENGTH)
    runs = [flat[last * n // (SAMPLES - 1) :][:LENGTH].to(dtype).float() for n in range(SAMPLES)]
    return [[*weight.shape], torch.cat(runs).cpu()]


def looked_at(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _look_at(value)
    if isinstance(value, Mapping):
        return {key: looked_at(item) for key, item in value.items()}
    return [looked_at(item) for item in value] if isinstance(value, (list, tuple)) else value


def tensors_of_patch(patch: Any) -> Iterable[Any]:
    """Tensors and settings of a patch of the host, which is an adapter object or tuples of such."""
    if isinstance(patch, (Tensor, str, int, float)):
        yield patch
    elif isinstance(patch, (list, tuple)):
        for item in patch:
            yield from tensors_of_patch(item)
    elif hasattr(patch, "weights"):
        yield type(patch).__name__
        yield from tensors_of_patch(patch.weights)


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{list(value.shape)}".encode())
        # In pieces, so that hours of sound are never copied at once.
        length = max(1, PIECE * value.shape[-1] // max(1, value.numel())) if value.ndim else 1
        for piece in value.detach().split(length, dim=-1) if value.ndim else [value.detach()]:
            digest.update(memoryview(piece.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    elif is_dataclass(value):
        _add(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Mapping):
        digest.update(f"{{{len(value)}".encode())
        for key in sorted(value):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, (bool, int, float, str)):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        raise TypeError(f"A {type(value).__name__} has no fingerprint.")
