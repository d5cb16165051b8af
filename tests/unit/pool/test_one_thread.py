"""Work in a thread of its own, which ends before its iterator is left."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing

import pytest
import torch

from pool.one_thread import OneThread, Stopped


def test_items_come_in_order_from_one_thread_without_gradients():
    def work(check):
        for number in range(3):
            yield number, threading.current_thread().name, torch.is_inference_mode_enabled()

    async def run():
        return [item async for item in OneThread().each(work, threading.Event())]

    assert asyncio.run(run()) == [(number, "avatar_0", True) for number in range(3)]


def test_work_that_is_left_has_ended_before_the_next_begins():
    told = []

    def work(check):
        try:
            yield 0
            while True:
                check()
                time.sleep(0.005)
        except Stopped:
            time.sleep(0.05)
            told.append("stopped")
            raise

    def next_work(check):
        told.append("next")
        yield 0

    async def run():
        thread = OneThread()

        async def reading():
            async with aclosing(thread.each(work, threading.Event())) as items:
                async for _ in items:
                    pass

        task = asyncio.create_task(reading())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["stopped"]
        assert [item async for item in thread.each(next_work, threading.Event())] == [0]

    asyncio.run(run())
    assert told == ["stopped", "next"]


def test_others_may_stop_the_work_and_errors_come_through():
    stop = threading.Event()

    def work(check):
        yield 0
        stop.set()
        check()

    def broken(check):
        yield 0
        raise ValueError("this portrait")

    async def run(make):
        return [item async for item in OneThread().each(make, stop)]

    with pytest.raises(Stopped):
        asyncio.run(run(work))
    with pytest.raises(ValueError, match="this portrait"):
        asyncio.run(run(broken))
