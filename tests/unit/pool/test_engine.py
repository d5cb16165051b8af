"""An avatar of the tiny talker, without a pool: files that it goes on with, and live video."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar.jobs.job import Job
from avatar.media.speech_feed import SpeechFeed

from pool.__main__ import parser, settings_of
from pool.engine import Engine, samples_of
from tests.gone_on import check_gone_on
from tools.environment import ROOT

EXAMPLE = ROOT / "talker" / "example"
JOB = Job("image.png", audio="audio.ogg", seed=7, seconds=1.44)


class Enough(Exception):
    """The test has seen enough."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    videos = tmp_path_factory.mktemp("videos")
    args = parser().parse_args(
        ["--device", "cpu", "--steps", "1", "--size", "128x128", "--videos", str(videos)]
    )
    return Engine(settings_of(args))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def job_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "image.png").write_bytes((EXAMPLE / "portrait.png").read_bytes())
    (folder / "audio.ogg").write_bytes((EXAMPLE / "speech.ogg").read_bytes())
    return folder


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_an_avatar_is_warm_after_one_block(engine):
    engine.warm()
    assert engine.works()


def test_a_file_that_was_left_is_gone_on_with(engine, tmp_path):
    whole, parts = job_folder(tmp_path / "whole"), job_folder(tmp_path / "parts")
    told = list(engine.file(whole, JOB, lambda: None))
    assert told[0]["total_frames"] == 36 and told[-1] == {"state": "finished"}
    assert [change["frames"] for change in told[1:-1]] == sorted({change["frames"] for change in told[1:-1]})

    left = []

    def check() -> None:
        if left and left[-1].get("frames", 0) >= 9:
            raise Enough

    with pytest.raises(Enough):
        for change in engine.file(parts, JOB, check):
            left.append(change)
    again = list(engine.file(parts, JOB, lambda: None))
    assert again[0]["file"] == left[0]["file"] and again[0]["frames"] == left[-1]["frames"] > 0
    cut = again[0]["frames"]
    check_gone_on(frames(parts / again[0]["file"]), frames(whole / told[0]["file"]), cut)
    names = {path.name for path in parts.iterdir()}
    assert names == {"image.png", "audio.ogg", again[0]["file"]}, "journal and snapshot are gone"


def test_another_rate_is_asked_for(engine, tmp_path):
    told = list(engine.file(job_folder(tmp_path / "job"), Job(**{**vars(JOB), "fps": 15.0}), lambda: None))
    assert (told[0]["fps"], told[0]["total_frames"]) == (15.0, 22)


def test_live_speech_gives_fragments_that_are_one_file(engine, tmp_path):
    feed = SpeechFeed(24_000)
    samples, rate = samples_of((EXAMPLE / "speech.ogg").read_bytes(), 60.0)
    feed.write(torch.from_numpy(samples[: rate // 2]), rate)
    feed.end()
    picture = (EXAMPLE / "portrait.png").read_bytes()
    begun, *fragments = engine.live(Job("-", seed=3), picture, feed, lambda: None)
    assert begun["type"] == "begun" and begun["mime_type"].startswith("video/mp4") and begun["width"] == 128
    (tmp_path / "live.mp4").write_bytes(b"".join(fragments))
    assert len(frames(tmp_path / "live.mp4")) >= 12 and len(fragments) >= 2


def test_a_live_session_ends_by_its_length(engine):
    feed, picture = SpeechFeed(24_000), (EXAMPLE / "portrait.png").read_bytes()
    feed.write(torch.zeros(48_000), 24_000)
    count = sum(
        isinstance(one, bytes)
        for one in engine.live(Job("-", seed=3, seconds=0.96), picture, feed, lambda: None)
    )
    assert count == 2


def test_a_file_that_somebody_writes_is_waited_for(engine, tmp_path):
    folder = job_folder(tmp_path / "job")
    first = engine.file(folder, JOB, lambda: None)
    begun = next(first), next(first)
    threading.Timer(0.5, first.close).start()
    again = engine.file(folder, JOB, lambda: None)
    assert next(again)["file"] == begun[0]["file"], "no second video is begun beside it"
    again.close()


def test_a_file_that_is_written_for_too_long_is_said_and_left_alone(engine, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pool.engine.LOCKED_SECONDS", 0.3)
    folder = job_folder(tmp_path / "job")
    with closing(engine.file(folder, JOB, lambda: None)) as first:
        written = next(first)["file"]
        with closing(engine.file(folder, JOB, lambda: None)) as second:
            assert next(second)["file"] != written
    assert f"{written} is still being written after 0 s" in caplog.text
