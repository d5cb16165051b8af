"""What reaches the door is known in its size, in time, and never too much at once."""

from __future__ import annotations

import asyncio

import pytest
from avatar.jobs import memory
from avatar.jobs.access import Refusal
from avatar.jobs.memory import COPIES, Memory

pytest.importorskip("fastapi", reason="ray[serve] brings fastapi")

from fastapi import Request

from pool.arriving import body, json_body

MOST = 1000


def request(*messages: dict | None, **headers: str) -> Request:
    """A request whose body is these messages; None: nothing more comes."""
    left = list(messages)

    async def receive() -> dict:
        if left and left[0] is not None:
            return left.pop(0)
        return await asyncio.Event().wait()

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named}, receive)


def piece(data: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": data, "more_body": more}


def refused(asked: Request, room: Memory, read=body) -> Refusal:
    async def run() -> None:
        async with read(asked, MOST, room):
            pass

    with pytest.raises(Refusal) as raised:
        asyncio.run(run())
    return raised.value


def test_a_body_counts_while_it_is_used_and_the_request_keeps_nothing():
    async def run():
        room = Memory(10_000)
        asked = request(piece(b"12", more=True), piece(b"345"), content_length="5")
        async with body(asked, MOST, room) as data:
            assert data == b"12345" and room.held == COPIES * 5
        assert room.held == 0 and not hasattr(asked, "_body")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("length", "status"),
    [(None, 411), ("", 411), ("-1", 411), ("1e2", 411), ("٣", 411), ("1001", 413), ("9" * 5000, 413)],
)
def test_an_odd_length_is_refused_before_anything_is_read(length, status):
    headers = {} if length is None else {"content_length": length.encode().decode("latin1")}
    assert refused(request(None, **headers), Memory(10_000)).status == status


def test_what_drips_is_cut_off_and_gives_its_memory_back(monkeypatch):
    monkeypatch.setattr(memory, "LEAST_SECONDS", 0.1)
    room = Memory(10_000)
    assert refused(request(piece(b"1", more=True), None, content_length="5"), room).status == 408
    assert room.held == 0


def test_who_goes_gives_the_memory_back():
    room = Memory(10_000)
    gone = request(piece(b"1", more=True), {"type": "http.disconnect"}, content_length="5")
    assert refused(gone, room).status == 400 and room.held == 0


def test_a_body_that_finds_no_memory_is_not_read():
    room = Memory(10)
    room.take(9)
    assert refused(request(None, content_length="5"), room).status == 503


def test_another_type_is_refused():
    plain = request(None, content_length="5", content_type="text/plain")
    assert refused(plain, Memory(99), json_body).status == 415
