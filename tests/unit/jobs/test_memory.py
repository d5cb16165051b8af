"""What clients send takes no more memory than there is for it, and not for ever."""

from __future__ import annotations

import pytest
from avatar.jobs.access import Refusal
from avatar.jobs.memory import LEAST_SECONDS, SLOWEST, Memory, patience, too_slow


def refusal(memory: Memory, count: int) -> Refusal:
    with pytest.raises(Refusal) as raised:
        memory.take(count)
    return raised.value


def test_bytes_are_counted_and_what_is_too_much_is_sent_away():
    memory = Memory(10)
    with memory.holding(6):
        refused = refusal(memory, 5)
        assert refused.status == 503 and int(refused.headers["Retry-After"]) > 0
        memory.take(4)
        with pytest.raises(Refusal), memory.holding(1):
            raise AssertionError("this is not reached")
        assert memory.held == 10, "what was refused is not given back"
    memory.give(4)
    assert memory.held == 0


def test_an_error_gives_bytes_back():
    memory = Memory(10)
    with pytest.raises(KeyError), memory.holding(10):
        raise KeyError
    assert memory.held == 0


def test_what_is_larger_than_all_is_taken_alone():
    memory = Memory(10)
    with memory.holding(11):
        refusal(memory, 1)
    memory.take(1)
    refusal(memory, 11)


def test_a_larger_body_may_take_longer():
    assert patience(0) == LEAST_SECONDS and patience(10 * SLOWEST) == LEAST_SECONDS + 10
    refused = too_slow(10 * SLOWEST)
    assert refused.status == 408 and "30 s" in str(refused)
