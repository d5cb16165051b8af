"""File jobs go from avatar to avatar until there is a video, whoever is lost meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from avatar.jobs.job import Job

from pool.files import FAILED, MOST_LOSSES, Files, Lost
from pool.line import Line, Place
from pool.store import Store

JOB = Job("-", audio="-", seed=7)
FILES = ("png", b"picture"), ("wav", b"sound")
KEEP = 3600.0


class Avatars:
    """Plays one script for each attempt: changes that are told, errors that are raised, and None to wait for ever."""

    def __init__(self, *scripts: list) -> None:
        self.scripts, self.left, self.asked = list(scripts), 0, []

    async def make(self, id_: str, attempt: str) -> AsyncIterator[dict]:
        self.asked.append((id_, attempt))
        try:
            for step in self.scripts.pop(0):
                if step is None:
                    await asyncio.Event().wait()
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.left += 1


def pool(tmp_path, avatars: Avatars, most: int = 9) -> tuple[Files, Line]:
    line = Line(most)
    return Files(Store(tmp_path), line, avatars.make, KEEP), line


BEGUN, HALF, DONE = (
    {"file": "video.mp4", "total_frames": 24},
    {"frames": 12, "size": 99},
    {"state": "finished"},
)


def test_a_job_that_is_made_is_finished_here_and_on_the_disk(tmp_path):
    async def run():
        files, line = pool(tmp_path, Avatars([BEGUN, HALF, DONE]))
        record = await files.ended((await files.add(JOB, *FILES, Place())).id)
        assert (record.state, record.frames, record.file) == ("finished", 12, "video.mp4") and record.ended
        assert Store(tmp_path).read(record.id) == record
        assert (line.waiting, line.running) == (0, 0)

    asyncio.run(run())


def test_a_lost_avatar_is_followed_by_another_one(tmp_path):
    async def run():
        avatars = Avatars([BEGUN, HALF, Lost()], [HALF], [BEGUN, {"frames": 24}, DONE])
        files, _ = pool(tmp_path, avatars)
        record = await files.ended((await files.add(JOB, *FILES, Place())).id)
        assert (record.state, record.frames, len(avatars.asked)) == ("finished", 24, 3)
        assert len({attempt for _, attempt in avatars.asked}) == 3, "each attempt has a name of its own"
        assert not any(files.wants(attempt) for _, attempt in avatars.asked)

    asyncio.run(run())


def test_a_job_that_takes_one_avatar_after_another_with_it_fails(tmp_path):
    async def run():
        avatars = Avatars(*[[Lost()]] * 9)
        files, _ = pool(tmp_path, avatars)
        record = await files.ended((await files.add(JOB, *FILES, Place())).id)
        assert (record.state, record.error, len(avatars.asked)) == ("failed", FAILED, MOST_LOSSES)

    asyncio.run(run())


def test_progress_forgives_losses(tmp_path):
    async def run():
        frames = [[{"frames": number}, Lost()] for number in range(1, 9)]
        files, _ = pool(tmp_path, Avatars(*frames, [DONE]))
        assert (await files.ended((await files.add(JOB, *FILES, Place())).id)).state == "finished"

    asyncio.run(run())


@pytest.mark.parametrize(
    "step", [{"state": "failed", "error": "Send another portrait."}, OSError("/secret/place")]
)
def test_a_failure_is_told_and_not_tried_again(tmp_path, step):
    async def run():
        avatars = Avatars([BEGUN, step])
        files, _ = pool(tmp_path, avatars)
        record = await files.ended((await files.add(JOB, *FILES, Place())).id)
        assert record.state == "failed" and len(avatars.asked) == 1
        assert record.error == (step["error"] if isinstance(step, dict) else FAILED)

    asyncio.run(run())


def test_a_stopped_job_leaves_its_avatar_and_stays_stopped(tmp_path):
    async def run():
        avatars = Avatars([BEGUN, HALF, None])
        files, line = pool(tmp_path, avatars)
        id_ = (await files.add(JOB, *FILES, Place())).id
        while line.running == 0:
            await asyncio.sleep(0)
        files.stop(id_)
        assert files.find(id_).state == "stopped"
        with pytest.raises(asyncio.CancelledError):
            await next(iter(files._tasks.values()))
        assert avatars.left == 1 and line.running == 0
        files.stop(id_)  # once more does nothing
        assert Store(tmp_path).read(id_).state == "stopped"

    asyncio.run(run())


def test_the_next_door_goes_on_with_what_was_put_aside(tmp_path):
    async def first():
        files, line = pool(tmp_path, Avatars([BEGUN, HALF, None], [None]))
        ids = [(await files.add(JOB, *FILES, Place())).id for _ in range(2)]
        while line.running == 0:
            await asyncio.sleep(0)
        files.put_aside()
        await asyncio.sleep(0.01)
        assert (line.running, line.waiting) == (0, 0)
        return ids

    async def second(ids):
        avatars = Avatars([DONE], [DONE])
        files, _ = pool(tmp_path, avatars)
        files.begin_again()
        assert [(await files.ended(id_)).state for id_ in ids] == ["finished"] * 2
        assert [id_ for id_, _ in avatars.asked] == ids, "the oldest first"

    asyncio.run(second(asyncio.run(first())))


def test_a_job_takes_over_the_place_of_its_request(tmp_path):
    async def run():
        files, line = pool(tmp_path, Avatars([None]), most=1)
        with line.coming() as place:
            record = await files.add(JOB, *FILES, place)
            assert line.waiting == 1, "nobody else gets it in between"
        assert line.waiting == 1 and files.ahead(record.id) == 0
        files.stop(record.id)  # before its work has begun
        await files.ended(record.id)
        assert line.waiting == 0

    asyncio.run(run())


def test_who_goes_while_a_job_is_written_leaves_nothing(tmp_path, monkeypatch):
    async def run():
        files, line = pool(tmp_path, Avatars())
        write = Store.write
        monkeypatch.setattr(Store, "write", lambda *job: (time.sleep(0.1), write(*job)))
        with line.coming() as place:
            adding = asyncio.create_task(files.add(JOB, *FILES, place))
            await asyncio.sleep(0.05)
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
        assert not Store(tmp_path).all() and line.waiting == 0

    asyncio.run(run())


def test_old_jobs_are_swept_away_and_others_stay(tmp_path):
    async def run():
        store = Store(tmp_path)
        now = time.time()
        ages = {"old": KEEP + 60, "new": KEEP - 60, "unfinished": None}
        ids = {}
        for name, age in ages.items():
            record = store.add(JOB, *FILES)
            ids[name] = record.id
            if age is not None:
                store.write(replace(record, state="finished", ended=now - age))
        files, _ = pool(tmp_path, Avatars([None], [DONE]))
        files.begin_again()
        await files.add(JOB, *FILES, Place())
        assert files.find(ids["old"]) is None and not store.folder(ids["old"]).exists()
        assert files.find(ids["new"]) and files.find(ids["unfinished"])

    asyncio.run(run())
