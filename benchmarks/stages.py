"""Where the threads of a video on several GPUs spend their time: why a row of `benchmarks.several` is as slow as it is.

    python -m benchmarks.stages --gpus 4 --graphs --blocks 33
    python -m benchmarks.stages --gpus 4 --graphs --blocks 33 --fp8 --attention8 --decoders 4 --json stages.json
    python -m benchmarks.stages --gpus 2 --config tiny --size 64x64 --device cpu      # a dry run

Takes the flags of `benchmarks.liveavatar`. Of the blocks that see a full window it prints, per thread and in
milliseconds: its work on a block by the host's clock, what of this is waiting for a turn and for room in the GPU's
queue, and the work by the GPU's clock. A thread that the host sees at work for much longer than it waits there and than
Python needs (20 ms for a graph, 60 for plain calls or the VAE) waits for latents. The file has every single piece, by
one clock.
"""

from __future__ import annotations

import functools
import json
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.turns import Turn, Turns
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.parts.wan.streaming import StreamingDecoder

from .common import print_table
from .liveavatar import Benchmark, parse

COLUMNS = (
    "thread",
    "work",
    "blocks",
    "host, ms",
    "of it for a turn",
    "for room",
    "GPU, ms",
    "from block to block",
)


@dataclass
class Span:
    """One piece of a thread's time, in seconds since the start; ``gpu`` by the clock of its GPU."""

    thread: str
    work: str
    start: float
    end: float
    marks: tuple[Any, Any] | None = None
    gpu: tuple[float, float] | None = None


class Trace:
    """Records the work of all threads while a video is made."""

    def __init__(self, gpus: range) -> None:
        self.spans: list[Span] = []
        self._open: dict[str, tuple[float, Any]] = {}
        self._zero = time.perf_counter()
        self._on_gpus = bool(gpus)
        self._bases: dict[int, tuple[float, Any]] = {}
        for gpu in gpus:
            torch.cuda.synchronize(gpu)
            with torch.cuda.device(gpu):
                self._bases[gpu] = self._now(), self._mark()

    def around(self, call: Callable, work: str, marked: bool = False) -> Callable:
        """``call``, of which every run is a span."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, mark = self._now(), self._mark() if marked else None
            try:
                return call(*args, **kwargs)
            finally:
                self._add(work, start, mark)

        return timed

    def opening(self, call: Callable) -> Callable:
        """``call``, with which a span begins that `closing` ends."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._open[threading.current_thread().name] = self._now(), self._mark()
            return call(*args, **kwargs)

        return timed

    def closing(self, call: Callable, work: str) -> Callable:
        """``call``, with which such a span ends."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._add(work, *self._open.pop(threading.current_thread().name))
            return result

        return timed

    def finish(self) -> list[Span]:
        """All spans, the GPUs' times among them."""
        for span in self.spans:
            if span.marks is not None:
                gpu = span.marks[0].device.index
                host, base = self._bases[gpu]
                torch.cuda.synchronize(gpu)
                span.gpu = tuple(host + base.elapsed_time(mark) / 1e3 for mark in span.marks)
                span.marks = None
        return self.spans

    def _add(self, work: str, start: float, mark: Any) -> None:
        marks = None if mark is None else (mark, self._mark())
        self.spans.append(Span(threading.current_thread().name, work, start, self._now(), marks))

    def _now(self) -> float:
        return time.perf_counter() - self._zero

    def _mark(self) -> Any:
        if not self._on_gpus:
            return None
        return torch.cuda.current_stream().record_event(torch.cuda.Event(enable_timing=True))


def record(benchmark: Benchmark) -> list[Span]:
    """One warm video of a benchmark whose models are there."""
    trace = Trace(range(torch.cuda.device_count() if benchmark.clock.cuda else 0))
    patched = {
        (BlockSampler, "prepare_block"): trace.opening,
        (BlockSampler, "finish_block"): functools.partial(trace.closing, work="steps"),
        (StreamingDecoder, "__call__"): functools.partial(trace.around, work="decoding", marked=True),
        (Turns, "take"): functools.partial(trace.around, work="turn"),
        (Turn, "pause"): functools.partial(trace.around, work="pause"),
    }
    before = {(owner, name): getattr(owner, name) for owner, name in patched}
    try:
        for (owner, name), wrap in patched.items():
            setattr(owner, name, wrap(before[owner, name]))
        for _ in benchmark.video():
            pass
    finally:
        for (owner, name), call in before.items():
            setattr(owner, name, call)
    return trace.finish()


def table(spans: list[Span], full: int) -> list[list[Any]]:
    """A row for each work of each thread, from its ``full``-th block on."""
    by_thread: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
    for span in spans:
        by_thread[span.thread][span.work].append(span)
    rows = []
    for thread, works in sorted(by_thread.items()):
        for work in ("steps", "decoding"):
            blocks = works[work][full:]
            if len(blocks) < 2:
                continue
            turns = [_within(works["turn"], block) for block in blocks]
            pauses = [
                _within(works["pause"], block) - turn for block, turn in zip(blocks, turns, strict=True)
            ]
            gpu = [1e3 * (block.gpu[1] - block.gpu[0]) for block in blocks if block.gpu]
            pace = 1e3 * (blocks[-1].end - blocks[0].end) / (len(blocks) - 1)
            host = statistics.median(1e3 * (block.end - block.start) for block in blocks)
            waits = [statistics.median(turns), statistics.median(pauses)]
            rows.append(
                [thread, work, len(blocks), host, *waits, statistics.median(gpu) if gpu else "", pace]
            )
    return rows


def _within(parts: list[Span], whole: Span) -> float:
    """Milliseconds that these parts take of a span of the same thread."""
    return sum(1e3 * (part.end - part.start) for part in parts if whole.start <= part.start < whole.end)


def main() -> None:
    args = parse()
    if args.gpus == 1:
        raise SystemExit("Add --gpus 2, or more: a single GPU has one thread.")
    benchmark = Benchmark(args)
    benchmark.build()
    benchmark.first_use()
    spans = record(benchmark)
    print_table(COLUMNS, table(spans, benchmark.full))
    if args.json:
        args.json.write_text(json.dumps([asdict(span) for span in spans], indent=0))


if __name__ == "__main__":
    main()
