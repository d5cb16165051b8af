"""Work that passes through several threads in order."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from avatar.engines.gpu.chain import Chain, Link, Stop, Stopped

CPU = torch.device("cpu")


def chain(source, *works, most: int = 3, stop: Stop | None = None) -> Chain:
    return Chain(source, [Link(CPU, work) for work in works], most, stop or Stop())


def read(made: Chain) -> list:
    found = []
    try:
        for result in made.results():
            found.append(result)
            made.finished()
    finally:
        made.close()
    return found


def numbers(count: int):
    yield from range(count)


def test_items_pass_all_links_in_order():
    assert read(chain(numbers(20), lambda x: x + 1, lambda x: 10 * x)) == [10 * (x + 1) for x in range(20)]


def test_every_thread_is_in_inference_mode():
    source = (torch.is_inference_mode_enabled() for _ in range(2))
    assert read(chain(source, lambda x: (x, torch.is_inference_mode_enabled()))) == [(True, True)] * 2


def test_an_error_of_the_source_comes_after_all_that_it_has_given():
    def failing():
        yield from range(3)
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        made = chain(failing(), lambda x: x)
        try:
            for result in made.results():
                found.append(result)
                made.finished()
        finally:
            made.close()
    assert found == [0, 1, 2]


def test_the_first_error_of_a_link_is_raised_and_the_others_are_told():
    stop, told, begun = Stop(), [], threading.Event()

    def waiting(x):
        begun.set()
        try:
            while True:
                stop.check()
                time.sleep(0.001)
        except Stopped:
            told.append(x)
            raise

    def failing(x):
        if x == 1:
            assert begun.wait(30)
            raise KeyError("first")
        return x

    with pytest.raises(KeyError, match="first"):
        read(chain(numbers(9), failing, waiting, stop=stop))
    assert told == [0]


def test_no_more_items_are_on_their_way_than_wanted_and_a_hold_lets_them_come_out():
    given = []

    def counting():
        for x in range(50):
            given.append(x)
            yield x

    made = chain(counting(), lambda x: x, most=2)
    results = made.results()
    assert next(results) == 0
    time.sleep(0.05)
    assert given == [0, 1]
    made.hold()
    made.finished()
    assert not made.resting and next(results) == 1
    made.finished()
    assert made.resting and given == [0, 1]
    made.go_on()
    assert next(results) == 2
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("avatar")]


def test_closing_closes_the_source_in_its_own_thread():
    closed = []

    def source():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    made = chain(source(), lambda x: x)
    next(made.results())
    made.close()
    assert closed == ["avatar source"]
