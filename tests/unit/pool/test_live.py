"""What a person says reaches the avatar in order, and no more of it than may wait."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from avatar.jobs.access import Refusal
from avatar.jobs.job import Job
from avatar.jobs.memory import Memory

from pool import live
from pool.live import BEGIN_SECONDS, LIMIT_SECONDS, MOST_UNBEGUN, SOUND_BYTES, Session, Sessions, Sound

RATE = 8000


def sound(seconds: float, replace: bool = False) -> Sound:
    return Sound(np.zeros(int(seconds * RATE), np.float32), RATE, replace)


def session(memory: Memory | None = None) -> Session:
    return Session(Job("-"), b"", memory or Memory(1 << 30), 0.0)


def status(call) -> int:
    with pytest.raises(Refusal) as raised:
        call()
    return raised.value.status


def test_speech_is_handed_on_once_and_in_order():
    async def run():
        one = session()
        first, second = sound(1), sound(2)
        one.say(first)
        one.say(second)
        one.end()
        assert await one.heard(0.5) == [first, second, None]
        assert one.waiting_seconds == 3.5, "what the avatar has told, and what it has got since"

    asyncio.run(run())


def test_an_avatar_that_waits_is_woken_by_speech_and_answered_without(monkeypatch):
    async def run():
        one = session()
        asking = asyncio.create_task(one.heard(0.0))
        await asyncio.sleep(0.01)
        assert not asking.done()
        one.say(sound(1))
        assert len(await asking) == 1
        monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.01)
        assert await one.heard(0.0) == []

    asyncio.run(run())


def test_more_than_may_wait_is_refused_and_a_replacement_is_not():
    async def run():
        one = session()
        one.say(sound(LIMIT_SECONDS - 1))
        await one.heard(0.0)
        assert status(lambda: one.say(sound(2))) == 429
        one.say(sound(2, replace=True))
        assert one.waiting_seconds == 2

    asyncio.run(run())


def test_nothing_is_said_after_the_end():
    one = session()
    one.end()
    assert status(lambda: one.say(sound(1))) == 410
    one.end()
    assert one._said == [None], "the end comes once"


def test_what_waits_to_be_said_counts_until_an_avatar_has_it():
    async def run():
        second = SOUND_BYTES + 4 * RATE
        memory = Memory(3 * second)
        one, other = session(memory), session(memory)
        one.say(sound(1))
        other.say(sound(1))
        one.say(sound(1))
        assert status(lambda: other.say(sound(0.1))) == 503
        assert other.waiting_seconds == 1, "what was refused does not wait"
        await one.heard(0.0)
        assert memory.held == second
        other.say(sound(0.5, replace=True))
        assert memory.held == SOUND_BYTES + 2 * RATE
        other.close()
        other.close()
        assert memory.held == 0

    asyncio.run(run())


def test_empty_messages_are_not_kept():
    memory = Memory(1000)
    one = session(memory)
    for _ in range(9):
        one.say(sound(0))
    assert memory.held == 0


def test_sessions_that_nobody_begins_are_forgotten_and_bounded():
    now, memory = 0.0, Memory(MOST_UNBEGUN + 9)
    sessions = Sessions(memory, clock=lambda: now)
    opened = [sessions.open(Job("-"), b"p") for _ in range(MOST_UNBEGUN)]
    assert len({one.id for one in opened}) == MOST_UNBEGUN == memory.held
    assert status(sessions.check_room) == status(lambda: sessions.open(Job("-"), b"p")) == 503
    opened[0].begun = True
    sessions.open(Job("-"), b"p")
    assert status(sessions.check_room) == 503
    now = BEGIN_SECONDS
    sessions.forget_unbegun()
    assert sessions.find(opened[0].id) is opened[0], "somebody watches this one"
    assert sessions.find(opened[1].id) is None and sessions.running() == 1
    assert status(lambda: opened[1].say(sound(1))) == 410 and memory.held == 1
    sessions.close(opened[0])
    assert sessions.find(opened[0].id) is None and status(lambda: opened[0].say(sound(1))) == 410
    assert memory.held == 0


def test_a_portrait_needs_room_in_memory():
    sessions = Sessions(Memory(10))
    sessions.open(Job("-"), b"12345678")
    assert status(lambda: sessions.open(Job("-"), b"123")) == 503
