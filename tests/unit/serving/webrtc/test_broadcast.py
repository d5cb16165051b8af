"""A live video on its way to those who watch it."""

from __future__ import annotations

import importlib.metadata
import queue
import threading

import av
import pytest
import torch
from avatar.media.frames import AvatarStream
from avatar.media.speech_feed import SpeechFeed
from avatar.serving.webrtc import broadcast as broadcasts
from avatar.serving.webrtc.broadcast import MISSING, Broadcast, available, broadcasting

RATE, FPS, BLOCK = 24_000, 25, 12


class Made:
    """A live stream whose blocks, of this grey and one more each, come when a test says so."""

    def __init__(self, grey: int = 100) -> None:
        self._grey = grey
        self.feed = SpeechFeed(RATE)
        self.feed.direct = True
        self._wanted: queue.Queue[bool] = queue.Queue()
        self.closed = False
        self.stream = AvatarStream(self._blocks, frames=None, width=32, height=32, fps=FPS, audio=self.feed)

    def _blocks(self):
        try:
            number = 0
            while self._wanted.get(timeout=20):
                size = BLOCK * RATE // FPS
                self.feed.write(torch.full((size,), 0.25), RATE)
                self.feed.take(size)
                yield torch.full((BLOCK, 32, 32, 3), self._grey + number, dtype=torch.uint8)
                number += 1
        finally:
            self.closed = True

    def more(self, count: int = 1) -> None:
        for _ in range(count):
            self._wanted.put(True)

    def end(self) -> None:
        self._wanted.put(False)


class Viewer:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.sent, self.ended = [], threading.Event()

    def __call__(self, sent) -> None:
        if sent is None:
            self.ended.set()
        else:
            self.sent.append(sent)

    @property
    def pictures(self) -> list[av.Packet]:
        return [sent.picture for sent in self.sent if sent.picture is not None]


@pytest.fixture
def made() -> Made:
    return Made()


def follow(made: Made, broadcast: Broadcast) -> threading.Thread:
    """Make the video, as the node does."""

    def run() -> None:
        for _ in broadcast.stream().blocks():
            pass
        broadcast.end()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_two_viewers_get_the_same_packets_and_each_begins_with_a_whole_picture(made):
    broadcast, first, second = Broadcast(made.stream), Viewer(), Viewer()
    broadcast.join(first)
    thread = follow(made, broadcast)
    made.more(2)
    while len(first.pictures) < BLOCK:
        assert not first.ended.wait(0.01)
    broadcast.join(second)
    made.end()
    thread.join(20)
    assert first.ended.wait(20) and second.ended.wait(20)
    assert len(first.pictures) >= 2 * BLOCK
    assert first.pictures[0].is_keyframe and second.pictures[0].is_keyframe
    assert second.pictures == first.pictures[-len(second.pictures) :]
    assert first.sent[-1].seconds == pytest.approx(2 * BLOCK / FPS)


def test_the_stream_itself_is_what_it_was(made):
    broadcast = Broadcast(made.stream)
    made.more(2)
    made.end()
    blocks = list(broadcast.stream().blocks())
    assert [int(block[0, 0, 0, 0]) for block in blocks] == [100, 101]
    assert broadcast.stream().audio is made.feed and broadcast.stream().live


def test_who_leaves_gets_no_more_and_nothing_is_encoded_for_nobody(made):
    broadcast, viewer = Broadcast(made.stream), Viewer()
    leave = broadcast.join(viewer)
    while len(viewer.sent) < 5:
        assert not viewer.ended.wait(0.01)
    (pump,) = [thread for thread in threading.enumerate() if thread.name == "live video"]
    leave()
    pump.join(20)
    assert not pump.is_alive()
    count = len(viewer.sent)
    again = Viewer()
    broadcast.join(again)
    while len(again.sent) < 5:
        assert not again.ended.wait(0.01)
    broadcast.end()
    assert again.ended.wait(20) and len(viewer.sent) == count


def test_a_stream_that_is_abandoned_closes_its_source(made):
    broadcast = Broadcast(made.stream)
    blocks = broadcast.stream().blocks()
    made.more()
    next(blocks)
    blocks.close()
    assert made.closed


def test_viewers_are_told_when_encoding_fails(made, monkeypatch):
    def fail(*_):
        raise ValueError("no encoder")

    monkeypatch.setattr(broadcasts, "Encoder", fail)
    broadcast, viewer = Broadcast(made.stream), Viewer()
    broadcast.join(viewer)
    assert viewer.ended.wait(20)


@pytest.mark.parametrize("version", [None, "1.9.0", "1.15.2"])
def test_without_a_usable_aiortc_the_node_says_so(made, monkeypatch, version):
    def installed(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    said = []
    with broadcasting(made.stream, said.append) as broadcast:
        assert broadcast is None
    assert said == [MISSING] and not available()


@pytest.mark.parametrize("version", ["1.16.0", "1.17.0.dev1", "2.0"])
def test_newer_versions_are_taken(made, monkeypatch, version):
    pytest.importorskip("aiortc")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with broadcasting(made.stream, print) as broadcast:
        assert not broadcast.ended
    assert broadcast.ended


def test_only_a_conversation_that_asks_for_it_is_broadcast(made, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.16.0")
    made.feed.direct = False
    finished = AvatarStream(made.stream._start, frames=24, width=32, height=32, audio=None)
    for stream in (made.stream, finished):
        with broadcasting(stream, print) as broadcast:
            assert broadcast is None
