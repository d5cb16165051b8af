"""The checksum of large files: the same however the data comes, another one for other data."""

from __future__ import annotations

import hashlib

import pytest
from avatar.engines.parts import checksum
from avatar.engines.parts.checksum import Checksum

DATA = bytes(range(256)) * 40


def of(*parts: bytes) -> bytes:
    with Checksum() as found:
        for part in parts:
            found.update(part)
        return found.digest()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(checksum, "PIECE", 1000)


def test_it_is_the_hash_of_the_hashes_of_all_pieces():
    pieces = [hashlib.sha256(DATA[start : start + 1000]).digest() for start in range(0, len(DATA), 1000)]
    assert of(DATA) == hashlib.sha256(b"".join(pieces)).digest()


@pytest.mark.parametrize("step", [1, 7, 999, 1000, 1001, 5000])
def test_it_does_not_matter_in_which_parts_data_comes(step):
    assert of(*(DATA[start : start + step] for start in range(0, len(DATA), step))) == of(DATA)


def test_other_data_has_another_one():
    swapped = DATA[1000:2000] + DATA[:1000] + DATA[2000:]
    others = [DATA, swapped, DATA[:-1], DATA + b"\0", DATA[:5000], DATA[:5000] + b"\1" + DATA[5001:], b""]
    assert len({of(data) for data in others}) == len(others)


def test_little_data_waits_in_memory(monkeypatch):
    waiting = []
    hashed = checksum._sha256

    def watched(parts):
        waiting.append(1)
        return hashed(parts)

    monkeypatch.setattr(checksum, "_sha256", watched)
    with Checksum() as found:
        for number in range(100):
            found.update(DATA[:1000])
            assert len(found._pieces) <= checksum.THREADS + 1
            assert number + 1 - len(waiting) <= checksum.THREADS + 1
        found.digest()
    assert len(waiting) == 101
