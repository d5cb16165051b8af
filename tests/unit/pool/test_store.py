"""File jobs outlast the process that has written them."""

from __future__ import annotations

import stat
import sys

import pytest
from avatar.jobs.job import Job

from pool.store import RECORD, Store

JOB = Job("-", audio="-", seed=7, prompt="She smiles.", fps=25.0)


def add(store: Store):
    return store.add(JOB, ("png", b"picture"), ("wav", b"sound"))


def test_another_process_reads_what_was_written(tmp_path):
    record = add(Store(tmp_path / "videos"))
    store = Store(tmp_path / "videos")
    assert store.read(record.id) == record and store.all() == [record]
    folder = store.folder(record.id)
    assert (folder / record.job.image).read_bytes() == b"picture"
    assert (folder / record.job.audio).read_bytes() == b"sound"
    assert record.job.prompt == "She smiles." and not record.over
    assert {path.name for path in folder.iterdir()} == {RECORD, "image.png", "audio.wav"}, "no draft is left"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_other_users_cannot_read_a_job(tmp_path):
    store = Store(tmp_path)
    assert stat.S_IMODE(store.folder(add(store).id).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": "x", "job": {}}', '{"id": "x", "job": {"image": "a"}, "z": 1}']
)
def test_a_damaged_job_is_left_alone_and_the_others_are_found(tmp_path, text, caplog):
    store = Store(tmp_path)
    good, bad = add(store), add(store)
    (store.folder(bad.id) / RECORD).write_text(text)
    assert store.all() == [good] and bad.id in caplog.text
    assert store.folder(bad.id).is_dir()


def test_jobs_come_in_the_order_in_which_they_were_asked_for(tmp_path):
    store = Store(tmp_path)
    records = [add(store) for _ in range(4)]
    assert [record.id for record in store.all()] == [record.id for record in records]
    store.remove(records[0].id)
    assert len(store.all()) == 3
