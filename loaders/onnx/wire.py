"""Protocol buffers, in which ONNX files are written, read where they lie: nothing is copied or built ahead of need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

VARINT, WORD, BYTES, HALF_WORD = 0, 1, 2, 5
MOST_FIELDS = 2_000_000
"""Fields of a file that are looked at. The published speech network has some 100,000; millions would take minutes."""
LONGEST_VARINT = 10
MOST_LISTED = 1_000_000
"""Numbers of one list; as a number of Python's each takes some thirty bytes."""

Value = int | memoryview
"""A whole number, or the bytes of a text, a message, packed numbers or a number of fixed width."""


class DamagedError(ValueError):
    """What is read is no protocol buffer, or not all of one."""


class UnsupportedGraph(ValueError):
    """The file is a graph that PyTorch is not taught to compute here; onnxruntime may."""


class Wire:
    """Reads the messages of one file."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def fields(self, message: Value) -> Iterator[tuple[int, Value]]:
        """The fields of a message, one after another, as number and value."""
        data, place = content(message), 0
        while place < len(data):
            self._left -= 1
            if self._left < 0:
                raise DamagedError(f"it has more than {MOST_FIELDS} fields")
            key, place = _varint(data, place)
            kind = key & 7
            if kind == VARINT:
                value, place = _varint(data, place)
                yield key >> 3, value
                continue
            if kind == BYTES:
                size, place = _varint(data, place)
            elif kind in (WORD, HALF_WORD):
                size = 8 if kind == WORD else 4
            else:
                raise DamagedError(f"a field is of the unknown kind {kind}")
            if size > len(data) - place:
                raise DamagedError("it is cut off")
            yield key >> 3, data[place : place + size]
            place += size


def content(value: Value) -> memoryview:
    """The bytes of a field that has some."""
    if not isinstance(value, memoryview):
        raise DamagedError("a number is where bytes belong")
    return value


def text(value: Value) -> str:
    return bytes(content(value)).decode("utf-8", "replace")


def whole(value: Value) -> int:
    """A signed whole number of 64 bits."""
    if not isinstance(value, int):
        raise DamagedError("bytes are where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def wholes(value: Value) -> list[int]:
    """Signed whole numbers: a single one, or packed ones."""
    if isinstance(value, int):
        return [whole(value)]
    found, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(whole(number))
        _check_count(len(found))
    return found


def floats(value: Value) -> list[float]:
    """Numbers of 32 bits: a single one, or packed ones."""
    data = content(value)
    if len(data) % 4:
        raise DamagedError("a number of 32 bits is cut off")
    _check_count(len(data) // 4)
    return np.frombuffer(data, "<f4").tolist()


def _check_count(count: int) -> None:
    """UnsupportedGraph where a list would take much memory."""
    if count > MOST_LISTED:
        raise UnsupportedGraph(f"it lists more than {MOST_LISTED} numbers in one place")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The whole number that begins at ``place``, and the place after it."""
    value = 0
    for i in range(LONGEST_VARINT):
        if place + i >= len(data):
            raise DamagedError("it is cut off")
        byte = data[place + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & ((1 << 64) - 1), place + i + 1
    raise DamagedError("a whole number has no end")
