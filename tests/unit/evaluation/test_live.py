"""A stream is measured while it passes, is passed on as it is, and is never held up."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch
from avatar.evaluation import live
from avatar.evaluation.instruments import Subject
from avatar.evaluation.live import Measured
from avatar.evaluation.measure import measure
from avatar.evaluation.metric import Layout
from avatar.media.frames import AvatarStream

from tests.unit.evaluation.videos import clip_of, faces, syllables

FRAMES = faces(syllables(3, 1))[:72]


def stream_of(blocks: list[torch.Tensor], **more: object) -> AvatarStream:
    count = sum(map(len, blocks))
    return AvatarStream(lambda *state: iter(blocks), frames=count, width=64, height=64, **more)


def blocks_with_seams(step: int) -> list[torch.Tensor]:
    """Nine frames, then twelve each; from frame to frame 1 brighter, between latents 2, between blocks ``step``."""
    level, frames = 0, []
    for number in range(57):
        place = number - 9
        level += 0 if number == 0 else step if place % 12 == 0 else 2 if place % 4 == 0 else 1
        frames.append(torch.full((64, 64, 3), level, dtype=torch.uint8))
    return list(torch.stack(frames).split([9, 12, 12, 12, 12]))


def test_blocks_go_on_untouched():
    blocks = list(FRAMES.split(12))
    passed = list(Measured(stream_of(blocks), 4).stream.blocks())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(passed, blocks, strict=True))


def test_the_seam_of_a_stream_is_found_without_being_told_the_blocks(monkeypatch):
    monkeypatch.setattr(live, "WAITING", 100)
    measured = Measured(stream_of(blocks_with_seams(8)), 4)
    list(measured.stream.blocks())
    values = {one.metric.name: one.value for one in measured.last.scores}
    assert values["change inside latents"] == 1
    assert values["change between latents"] == 2
    assert values["change between blocks"] == 8
    assert values["FPS"] > 0
    assert values["first frame"] is not None


def test_a_stream_and_its_finished_frames_have_the_same_scores(monkeypatch):
    monkeypatch.setattr(live, "WAITING", 100)
    blocks = blocks_with_seams(8)
    for number, block in enumerate(blocks):  # something to be sharp, and colours that drift
        block[:, :, ::4, 0] += 3 * (number + 1)
    measured = Measured(stream_of(blocks), 4)
    list(measured.stream.blocks())
    finished = measure(clip_of(torch.cat(blocks)), Subject(layout=Layout(12, 4, 9)))
    live_scores, scores = (
        {one.metric.name: one.value for one in found.scores if one.value is not None}
        for found in (measured.last, finished)
    )
    both = set(live_scores) & set(scores)
    assert both >= {"T.Flicker", "block border", "sharpness", "sharpness drift", "colour drift"}
    for name in both:
        assert live_scores[name] == pytest.approx(scores[name], rel=1e-6), name


def test_numbers_are_written_beside_the_video(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "WAITING", 100)
    told = []
    measured = Measured(stream_of(blocks_with_seams(3), on_file=told.append), 4)
    measured.stream.on_file(tmp_path / "video_00001_.mp4")
    list(measured.stream.blocks())
    assert told == [tmp_path / "video_00001_.mp4"]
    text = (tmp_path / "video_00001_.metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["first"] for line in lines[:-1]] == [0, 9, 21, 33, 45]
    assert lines[1]["change"] == pytest.approx((3 + 9 * 1 + 2 * 2) / 12, abs=1e-3)
    assert lines[-1]["scores"]["block border"] == 1.5
    assert lines[-1]["left out"] == 0


def test_a_slow_measurement_leaves_blocks_out_and_delays_none(monkeypatch):
    held, real = threading.Event(), live.LiveMeasurement._measure

    def slow(self, *item):
        held.wait(20)
        real(self, *item)

    monkeypatch.setattr(live.LiveMeasurement, "_measure", slow)
    measured = Measured(stream_of(list(FRAMES.split(4))), 4)
    passing = measured.stream.blocks()
    begin = time.monotonic()
    for _ in range(17):
        next(passing)
    assert time.monotonic() - begin < 5
    assert measured.now.left_out >= 14
    held.set()
    list(passing)
    values = {one.metric.name: one.value for one in measured.last.scores}
    assert "block border" not in values  # what lies between the blocks is not known
    assert values["sharpness"] > 0


def test_a_fault_of_the_measurement_ends_no_video(monkeypatch):
    def fails(self, *item):
        raise RuntimeError("no space left")

    monkeypatch.setattr(live.LiveMeasurement, "_measure", fails)
    measured = Measured(stream_of(list(FRAMES.split(12))), 4)
    assert sum(map(len, measured.stream.blocks())) == 72
    assert measured.last is None
    assert str(measured.now.error) == "no space left"


def test_an_abandoned_pass_ends_the_thread_and_closes_the_source():
    closed = []

    def source():
        try:
            yield from FRAMES.split(12)
        finally:
            closed.append(True)

    measured = Measured(AvatarStream(source, frames=72, width=64, height=64), 4)
    passing = measured.stream.blocks()
    next(passing)
    passing.close()
    assert closed == [True]
    assert not measured.now._thread.is_alive()
    assert measured.last.frames == 12


def test_charts_are_drawn_while_it_runs(monkeypatch):
    monkeypatch.setattr(live, "DRAWN_SECONDS", 0.0)
    measured = Measured(stream_of(list(FRAMES.split(12))), 4)
    list(measured.stream.blocks())
    assert measured.now.chart.width == 560


def test_a_state_is_handed_on_to_the_source():
    seen = []

    class State:
        first_frame = 60

    def start(state=None):
        seen.append(state)
        return iter(FRAMES[60:].split(12))

    state = State()
    source = AvatarStream(start, frames=72, width=64, height=64)
    assert sum(map(len, Measured(source, 4).stream.blocks(state))) == 12
    assert seen == [state]
