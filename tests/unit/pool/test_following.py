"""A video is read to its end while it grows, and nobody takes a part of it for all."""

from __future__ import annotations

import asyncio

import pytest
from avatar.jobs.job import Job
from avatar.media.journal import growing_path

from pool.following import Cut, follow
from pool.store import Record

HEAD, TAIL, ORDINARY = b"first block ", b"second block", b"an ordinary mp4"


class Growing:
    """A video whose record and file change step by step, whenever its reader has read all there is."""

    def __init__(self, folder) -> None:
        self.video = folder / "video.mp4"
        self.record: Record | None = Record("id", Job("-"), state="running")

    def change(self, **values) -> None:
        self.record = Record(**{**self.record.__dict__, **values})

    async def read(self, *steps) -> bytes:
        got, waiting = b"", list(steps)

        async def reading():
            nonlocal got
            async for piece in follow(lambda: self.record, self.video.parent):
                got += piece

        task = asyncio.create_task(reading())
        for step in waiting:
            await asyncio.sleep(0.12)
            step()
        await task
        return got

    # Steps.

    def first(self) -> None:
        self.video.write_bytes(HEAD + b"half of")
        self.change(file="video.mp4", size=len(HEAD))

    def second(self) -> None:
        with self.video.open("r+b") as file:  # as another avatar goes on with it
            file.truncate(len(HEAD))
            file.seek(len(HEAD))
            file.write(TAIL)
        self.change(size=len(HEAD + TAIL))

    def finish(self) -> None:
        draft = self.video.with_name("draft")
        draft.write_bytes(ORDINARY)
        draft.replace(self.video)
        self.change(state="finished")


def test_half_a_block_of_a_lost_avatar_is_never_read(tmp_path):
    growing = Growing(tmp_path)
    got = asyncio.run(growing.read(growing.first, growing.second, growing.finish))
    assert got == HEAD + TAIL


def test_who_comes_when_it_is_done_gets_the_finished_file(tmp_path):
    growing = Growing(tmp_path)
    growing.first()
    growing.second()
    growing.finish()
    assert asyncio.run(growing.read()) == ORDINARY


def test_who_comes_after_an_interruption_reads_the_growing_form(tmp_path):
    growing = Growing(tmp_path)
    growing.first()
    growing.video.rename(growing_path(growing.video))
    growing.video.write_bytes(b"what was made, as an ordinary mp4")

    def go_on():
        growing_path(growing.video).replace(growing.video)
        growing.second()

    assert asyncio.run(growing.read(go_on, growing.finish)) == HEAD + TAIL


@pytest.mark.parametrize("end", ["failed", "stopped", "gone", "begun anew"])
def test_a_video_that_ends_otherwise_is_cut(tmp_path, end):
    growing = Growing(tmp_path)

    def ended():
        if end == "gone":
            growing.record = None
        else:
            growing.change(**({"file": "other.mp4"} if end == "begun anew" else {"state": end}))

    with pytest.raises(Cut):
        asyncio.run(growing.read(growing.first, ended))


def test_a_video_that_never_began_is_cut(tmp_path):
    growing = Growing(tmp_path)
    with pytest.raises(Cut):
        asyncio.run(growing.read(lambda: growing.change(state="failed")))
