"""Tensors from a file of `save_tensors` straight to where they are used, through a little locked memory.

The file is read once, from its beginning to its end; what was read travels to the GPU and is hashed while more is read.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from ..gpu.pinned import PinnedMemory
from .checksum import BEHIND, PIECE, Checksum
from .saved_tensors import CHECKSUM, DTYPES

MOST_HEADER = 100_000_000
"""Bytes; the safetensors format's own limit."""
_NAMES = {name: dtype for dtype, name in DTYPES.items()}


class CheckedTensors:
    """An open file of `save_tensors`; use it as a context manager.

    Attributes:
        metadata: what was saved beside the tensors, not yet compared with the checksum.
        tensors: all of them, in the file's order and without memory (on the device "meta").

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such a file, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = path.open("rb", buffering=0)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.metadata, self.tensors = self._header()
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            self._file.close()
            raise ValueError(f"{self._name} is damaged.") from error

    def __enter__(self) -> CheckedTensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _header(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        length = int.from_bytes(self._file.read(8), "little")
        if length > min(MOST_HEADER, self._size):
            raise ValueError("no header")
        header = json.loads(self._file.read(length))
        metadata, tensors, end = header.pop("__metadata__"), {}, 0
        for name, entry in header.items():
            tensors[name] = torch.empty(entry["shape"], dtype=_NAMES[entry["dtype"]], device="meta")
            start, end = end, end + tensors[name].nbytes
            if entry["data_offsets"] != [start, end]:
                raise ValueError(f"{name} lies elsewhere")
        del tensors[CHECKSUM]
        self._data = 8 + length
        if self._size != self._data + end:
            raise ValueError("cut off")
        return dict(metadata), tensors

    def read_into(
        self, tensors: Mapping[str, Tensor], device: torch.device, after_each: Callable[[int], None]
    ) -> None:
        """Fill tensors of the file's names, shapes and dtypes, which lie on ``device`` or on the CPU.

        Args:
            after_each: told the bytes of each piece that was read; may raise.

        Raises:
            ValueError: the file is not what was saved; what the tensors hold then is of no use.
        """
        staging = PinnedMemory(BEHIND * PIECE)
        slots = staging.bytes.view(BEHIND, PIECE)
        travelled: list[torch.cuda.Event | None] = [None] * BEHIND
        places, start = deque(self._places(tensors)), 0
        end = self._size - Checksum.size
        self._file.seek(0)
        with Checksum() as checksum:
            while start < end:
                slot = start // PIECE % BEHIND
                if (event := travelled[slot]) is not None:
                    event.synchronize()
                piece = slots[slot, : min(PIECE, end - start)]
                data = memoryview(piece.numpy())
                self._fill(data)
                checksum.update(data)
                _deal(piece, start, places)
                if device.type == "cuda":
                    travelled[slot] = torch.cuda.current_stream(device).record_event()
                start += len(piece)
                after_each(len(piece))
            if self._file.read() != checksum.digest():
                raise ValueError(f"{self._name} is damaged.")
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # before the locked memory is given back

    def _places(self, tensors: Mapping[str, Tensor]) -> list[tuple[int, Tensor]]:
        """Where in the file the bytes of each tensor begin, and its bytes."""
        found, start = [], self._data
        for name, empty in self.tensors.items():
            found.append((start, tensors[name].view(-1).view(torch.uint8)))
            start += empty.nbytes
        return found

    def _fill(self, data: memoryview) -> None:
        while data:
            count = self._file.readinto(data)
            if not count:
                raise ValueError(f"{self._name} is damaged.")
            data = data[count:]


def _deal(piece: Tensor, start: int, places: deque[tuple[int, Tensor]]) -> None:
    """Copy what ``piece``, the file's bytes from ``start`` on, holds of the first of ``places``; drop full ones."""
    end = start + len(piece)
    while places and places[0][0] < end:
        place, target = places[0]
        first, last = max(place, start), min(place + len(target), end)
        target[first - place : last - place].copy_(piece[first - start : last - start], non_blocking=True)
        if last < place + len(target):
            return  # the next piece has the rest
        places.popleft()
