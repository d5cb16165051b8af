"""Tensors in a file with a checksum, so that a state that is gone on with is the one that was saved."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from .checksum import PIECE, Checksum

DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int8: "I8",
    torch.uint8: "U8",
}
CHECKSUM = "checksum"
"""The last tensor of a file: that of all of the file before it."""
SLOWEST = 1e8
"""Bytes per second; a video is not made to wait for a slower disk."""
PATIENCE = 10.0
"""Seconds after which a disk is judged, since a system takes some bytes at once."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file tensor by tensor, with a checksum; ``path`` is replaced once all of it is written.

    OSError for a full disk and for one that is slower than `SLOWEST`; then there is nothing new.
    """
    draft = path.with_name(path.name + ".new")
    began, written = time.monotonic(), 0

    def check_pace(size: int) -> None:
        nonlocal written
        written, took = written + size, time.monotonic() - began
        if took > PATIENCE and written < SLOWEST * took:
            raise OSError(f"the disk takes {written / took / 1e6:.0f} MB a second.")

    try:
        with draft.open("wb") as file:
            write_tensors(file, tensors, metadata, check_pace)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_tensors(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    after_each: Callable[[int], None] = lambda size: None,
) -> None:
    """Write tensors into an empty file, as `save_tensors` does; ``after_each`` is told their bytes, and may raise."""
    header, end = {"__metadata__": dict(metadata)}, 0
    for name, tensor in {**tensors, CHECKSUM: torch.empty(Checksum.size, dtype=torch.uint8)}.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    head = len(head).to_bytes(8, "little") + head
    with Checksum() as checksum:
        checksum.update(head)
        file.write(head)
        for tensor in tensors.values():
            data = memoryview(tensor.contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
            checksum.update(data)
            file.write(data)
            after_each(len(data))
        file.write(checksum.digest())


def read_metadata(path: Path, fingerprint: str, check_interrupt: Callable[[], None]) -> dict[str, str]:
    """What was saved beside the tensors of a file with this ``fingerprint``.

    Args:
        check_interrupt: called while the file is looked through; raises to stop.

    Raises:
        ValueError: the file cannot be read, is not what was saved, or belongs to another video.
    """
    _verify(path, check_interrupt)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("fingerprint") != fingerprint:
        raise ValueError(f"The snapshot {path.name} is of another video.")
    return metadata


def _verify(path: Path, check_interrupt: Callable[[], None]) -> None:
    """Raise ValueError for a file that is not what `save_tensors` has written; nothing of it is interpreted."""
    try:
        left = path.stat().st_size - Checksum.size
        with path.open("rb", buffering=0) as file, Checksum() as checksum:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                checksum.update(piece)
                left -= len(piece)
                check_interrupt()
            sound = left == 0 and file.read() == checksum.digest()
    except OSError as error:
        raise ValueError(f"The snapshot {path.name} cannot be read ({error.strerror}).") from error
    if not sound:
        raise ValueError(f"The snapshot {path.name} is damaged.")


class Lazily(Mapping):
    """The tensors of an open safetensors file, read one at a time."""

    def __init__(self, file) -> None:
        self._file, self._names = file, set(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
