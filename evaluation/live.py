"""Measures a stream while it passes, without holding it up."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..media.frames import AvatarStream
from .charts import charts_of
from .clip import Piece
from .measure import Measurement
from .metric import Layout, Observed, score
from .metrics import METRICS
from .picture import picture
from .readers.change import Change
from .readers.colour import Colour
from .readers.sharpness import Sharpness
from .tracks import Growing, Track

WAITING = 2
"""Blocks that may wait to be measured; a further one is left out."""
DRAWN_SECONDS = 2.0
"""Between two drawings of the charts."""
LAST_WORD = 10.0
"""Seconds for which the end of a stream waits for what is still being measured."""


class LiveMeasurement:
    """One pass over a stream that is measured in a thread of its own; close it after the last block.

    Attributes:
        chart: the newest picture of the charts; None before the first.
        frames: number of frames that have passed.
        left_out: blocks that came too fast to be measured.
        error: what ended the measurement early.
    """

    def __init__(self, fps: float, latent: int, path: Path | None) -> None:
        self._fps, self._latent, self._path = fps, latent, path
        self._begin = self._drawn = time.monotonic()
        self._waiting: queue.Queue[tuple[int, float, Tensor] | None] = queue.Queue(WAITING)
        self._readers = [Change(), Sharpness(), Colour()]
        self._parts = {reader.name: Growing() for reader in self._readers}
        self._made: list[tuple[float, int]] = []
        self._sizes: list[int] = []
        self._next = self.frames = self.left_out = 0
        self.chart: Image.Image | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="measure stream", daemon=True)
        self._thread.start()

    def offer(self, block: Tensor) -> bool:
        """Hand over the next block ``[F, H, W, 3]``; False when it is left out. Returns at once."""
        first, self.frames = self.frames, self.frames + len(block)
        self._sizes.append(len(block))
        self._made.append((time.monotonic() - self._begin, self.frames))
        try:
            self._waiting.put_nowait((first, self._made[-1][0], block))
        except queue.Full:
            self.left_out += 1
            return False
        return True

    def close(self) -> Measurement | None:
        """Wait for what is still being measured, write the scores, and return them; None without a measured block."""
        try:
            self._waiting.put(None, timeout=LAST_WORD)
        except queue.Full:
            return None
        self._thread.join(LAST_WORD)
        if self._thread.is_alive() or self.error is not None or not self._parts["sharpness"]:
            return None
        found = self._found()
        scores = {one.metric.name: one.value for one in found.scores if one.value is not None}
        self._write({"frames": self.frames, "left out": self.left_out, "scores": scores})
        self._draw(found)
        return found

    def _run(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                self._measure(*item)
        except Exception as error:  # a measurement must not end a video; the node says what happened
            self.error = error
            while self._waiting.get() is not None:
                pass

    def _measure(self, first: int, made: float, block: Tensor) -> None:
        if first != self._next:  # a block was left out: the change to it is not the one to its successor
            self._readers[0] = Change()
        self._next = first + len(block)
        times = torch.arange(first, self._next, dtype=torch.float64) / self._fps
        line: dict[str, object] = {"first": first, "frames": len(block), "seconds": round(made, 3)}
        for reader in self._readers:
            track = reader.read(Piece(times, block))
            self._parts[reader.name].add(track)
            if len(track):
                mean = track.values.double().mean(0)
                line[reader.name] = (mean * 1000).round().div(1000).tolist()
        self._write(line)
        if time.monotonic() - self._drawn > DRAWN_SECONDS:
            self._draw(self._found())
            self._drawn = time.monotonic()

    def _found(self) -> Measurement:
        seen = Observed(self._fps, self.frames / self._fps, layout=self._layout())
        seen.tracks = {name: growing.track() for name, growing in self._parts.items()}
        made = torch.tensor(list(self._made), dtype=torch.float64)
        seen.tracks["made"] = Track(made[:, 0], made[:, 1])
        whole = [metric for metric in METRICS if self.left_out == 0 or "layout" not in metric.needs]
        scores = [score(metric, seen) for metric in whole]
        return Measurement("stream", self._fps, self.frames, seen.seconds, seen, scores)

    def _layout(self) -> Layout | None:
        """The blocks as they came; None where they are not of one size or frames are missing in between."""
        sizes = list(self._sizes)
        block = sizes[min(1, len(sizes) - 1)]
        even = all(size == block for size in sizes[1:-1]) and sizes[0] <= block
        if self.left_out or not even or len(sizes) < 2:
            return None
        return Layout(block, self._latent if block % self._latent == 0 else block, sizes[0] % block)

    def _draw(self, found: Measurement) -> None:
        self.chart = picture(charts_of(found), columns=1)  # nodes are narrow

    def _write(self, line: dict[str, object]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


class Measured:
    """A stream whose passes are measured; ``stream`` is to be used in place of the one that was given.

    ``now`` is the measurement of the newest pass, ``last`` what the newest finished pass has found.
    """

    def __init__(self, stream: AvatarStream, latent: int) -> None:
        self._source, self._latent, self._path = stream, latent, None
        self.now: LiveMeasurement | None = None
        self.last: Measurement | None = None
        self.stream = stream.changed(self._blocks, on_file=self._note)

    def _note(self, path: Path) -> None:
        self._path = path.with_name(f"{path.stem}.metrics.jsonl")
        if self._source.on_file is not None:
            self._source.on_file(path)

    def _blocks(self, state: object = None) -> Iterator[Tensor]:
        now = self.now = LiveMeasurement(self._source.fps, self._latent, self._path)
        try:
            for block in self._source.blocks(state):
                now.offer(block)
                self.passed(now, block)
                yield block
        finally:
            self.last = now.close()
            self.ended(now)

    def passed(self, now: LiveMeasurement, block: Tensor) -> None:
        """Called before each block goes on; a node shows the chart here."""

    def ended(self, now: LiveMeasurement) -> None:
        """Called when a pass has ended, also one that was abandoned."""
