"""Blocking work as a stream that can be closed."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from avatar.conversation.worker import Worker


def test_results_come_as_they_are_made():
    async def main():
        worker, made = Worker("test"), []

        def work(put, stop):
            for number in range(3):
                made.append(number)
                put(number)

        return [result async for result in worker.stream(work)], await worker.call(lambda stop: "called")

    assert asyncio.run(main()) == ([0, 1, 2], "called")


def test_an_error_arrives_where_the_results_are_read():
    async def main():
        def work(put, stop):
            put(1)
            raise ValueError("a fault")

        got = []
        with pytest.raises(ValueError, match="a fault"):
            async for result in Worker("test").stream(work):
                got.append(result)
        return got

    assert asyncio.run(main()) == [1]


def test_closing_stops_the_work_and_the_next_one_waits_for_it():
    async def main():
        worker, ended = Worker("test"), []

        def endless(put, stop):
            while not stop.is_set():
                put(threading.current_thread().name)
                time.sleep(0.01)
            ended.append(True)

        stream = worker.stream(endless)
        await anext(stream)
        await stream.aclose()
        assert await worker.call(lambda stop: list(ended)) == [True]

    asyncio.run(main())
