"""Threads that take turns, whoever has the oldest work first."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from avatar.engines.gpu import turns as module
from avatar.engines.gpu.turns import Turn, Turns

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_a_cpu_too(monkeypatch):
    monkeypatch.setattr(module, "answers_at_once", lambda device: False)


def waiting(turns: Turns, count: int) -> None:
    """Wait until so many threads wait for a turn."""
    while len(turns._waiting) < count:
        time.sleep(0.001)


def begun(work, *args) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def test_the_oldest_work_goes_first_and_of_equal_ones_whoever_came_first():
    turns, order = Turns(), []

    def work(name, rank):
        with Turn(turns, CPU).taken(rank):
            order.append(name)

    threads = []
    with Turn(turns, CPU).taken(0):
        for name, rank in (("a", 5), ("b", 2), ("c", 5), ("d", 1)):
            threads.append(begun(work, name, rank))
            waiting(turns, len(threads))
    for thread in threads:
        thread.join(10)
    assert order == ["d", "b", "a", "c"]


def test_in_a_pause_older_work_goes_first_and_younger_work_does_not():
    turns, order = Turns(), []

    def work(rank):
        with Turn(turns, CPU).taken(rank):
            order.append(rank)

    mine = Turn(turns, CPU)
    with mine.taken(3):
        threads = [begun(work, 7), begun(work, 1)]
        waiting(turns, 2)
        mine.pause()
        order.append(3)
    for thread in threads:
        thread.join(10)
    assert order == [1, 3, 7]


def test_an_error_ends_the_turn():
    turns = Turns()
    with pytest.raises(ValueError, match="broken"), Turn(turns, CPU).taken(0):
        raise ValueError("broken")
    with Turn(turns, CPU).taken(0):
        pass


def test_an_error_of_the_gpu_in_a_pause_leaves_the_turn_to_be_ended_once(monkeypatch):
    def broken(self):
        raise RuntimeError("the GPU has failed")

    turns = Turns()
    mine = Turn(turns, CPU)
    with pytest.raises(RuntimeError, match="has failed"), mine.taken(0), monkeypatch.context() as patched:
        patched.setattr(Turn, "_wait", broken)
        mine.pause()
    with Turn(turns, CPU).taken(0):
        pass


def test_a_pause_outside_of_a_turn_does_nothing():
    turns = Turns()
    with Turn(turns, CPU).taken(0):
        Turn(turns, CPU).pause()  # would wait for ever


def test_where_the_thread_itself_computes_there_are_no_turns(monkeypatch):
    monkeypatch.setattr(module, "answers_at_once", lambda device: device.type != "cuda")
    turns = Turns()
    with Turn(turns, CPU).taken(1), Turn(turns, CPU).taken(0):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_thread_waits_until_little_is_left_to_do():
    device = torch.device("cuda")
    turn, x = Turn(Turns(), device), torch.rand(4096, 4096, device=device)
    with turn.taken(0):
        for _ in range(8):
            x = x @ x / 4096
            turn.pause()
            assert len(turn._asked) <= module.AHEAD
