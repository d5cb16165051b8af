"""Locked memory is kept for the next one who asks while somebody wants it to be, with a stand-in for CUDA's locking."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import deque

import pytest
import torch
from avatar.engines.gpu import pinned
from avatar.engines.gpu.pinned import GRANULE, PinnedMemory, keep_while, kept_bytes

MB = 2**20


class Runtime:
    """CUDA's locking: notes what is locked, by address."""

    def __init__(self) -> None:
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        assert address not in self.locked
        self.locked[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> None:
        del self.locked[address]


class Model:
    """One who will ask for locked memory again."""


@pytest.fixture
def runtime(monkeypatch):
    made = Runtime()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: made)
    monkeypatch.setattr(pinned, "_kept", [])
    monkeypatch.setattr(pinned, "_keepers", weakref.WeakSet())
    monkeypatch.setattr(pinned, "_returned", deque())
    yield made
    assert not made.locked


def test_memory_is_unlocked_at_once_where_nobody_keeps_it(runtime):
    memory = PinnedMemory(3 * MB)
    assert memory.bytes.shape == (3 * MB,) and list(runtime.locked.values()) == [GRANULE]
    del memory
    assert not runtime.locked and kept_bytes() == 0


def test_what_is_given_back_serves_the_next_one_until_its_keeper_is_gone(runtime):
    model = Model()
    keep_while(model)
    memory = PinnedMemory(GRANULE)
    address = memory.bytes.data_ptr()
    del memory
    assert list(runtime.locked) == [address] and kept_bytes() == GRANULE
    memory = PinnedMemory(GRANULE * 3 // 4)
    assert memory.bytes.data_ptr() == address and kept_bytes() == 0
    del memory, model
    assert not runtime.locked


def test_memory_in_use_outlives_its_keeper(runtime):
    model = Model()
    keep_while(model)
    memory = PinnedMemory(MB)
    del model
    assert runtime.locked
    memory.bytes.fill_(1)
    del memory
    assert not runtime.locked


@pytest.mark.parametrize(("size", "left"), [(1.5, []), (0.4, []), (0.01, [9])])
def test_a_size_that_no_kept_piece_fits_unlocks_all_but_those_far_larger(runtime, size, left):
    """Another video's caches take the room of the last one's, but a block of weights does not."""
    model = Model()
    keep_while(model)
    kept = PinnedMemory(9 * GRANULE)
    del kept
    memory = PinnedMemory(int(size * 9 * GRANULE))
    assert kept_bytes() == sum(left) * GRANULE
    del memory, model


def test_memory_that_the_system_does_not_lock_is_an_error_in_words_and_once(runtime, monkeypatch):
    asked = []

    def zeros(*_, device: str) -> None:
        asked.append(device)
        raise torch.OutOfMemoryError("of the call before")

    monkeypatch.setattr(runtime, "cudaHostRegister", lambda *_: 1)
    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(MemoryError, match="close other programs"):
        PinnedMemory(MB)
    assert asked == ["cuda"], "CUDA would tell it again at the next kernel"


def test_threads_that_take_and_give_back_at_once_never_share_a_piece(runtime, monkeypatch):
    monkeypatch.setattr(pinned, "GRANULE", 4096)
    model, faults, used = Model(), [], set()
    keep_while(model)

    class Cycle:
        """Found by the collector only, whoever's turn it is."""

        def __init__(self) -> None:
            self.itself, self.memory = self, PinnedMemory(4096)

    def work() -> None:
        try:
            for number in range(400):
                if number % 4 == 0:
                    Cycle()
                memory = PinnedMemory(4096)
                address = memory.bytes.data_ptr()
                if address in used:
                    faults.append("two have the same piece")
                used.add(address)
                used.remove(address)
                del memory
        except Exception as error:
            faults.append(error)

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    gc.collect()
    assert not faults, faults[0]
    assert sum(runtime.locked.values()) == kept_bytes(), "a piece was lost"
    del model
