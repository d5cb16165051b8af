"""How many GPUs a pool needs for how many people: a simulation with the measured speeds, not a measurement.

    python -m benchmarks.capacity --json capacity.json

People come at random (a Poisson process) and wait in one line, first come, first served; a GPU has one session at a
time. Live sessions are of random length (exponential), because people leave when they like; files are of one length.
Whoever finds the line full is refused and does not come back; nobody leaves the line. Loading and the choice of a
GPU take no time, and no GPU fails. For each row the fewest GPUs are sought with which waiting and refusals stay within
the aims.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .common import environment, print_table

FPS = 25
PEOPLE = 100, 1000, 10_000
LIVE_SECONDS, FILE_SECONDS = 300.0, 30.0
"""Mean length of a live session; length of every file."""
BUSY_SHARE = 0.1
"""So much of all people ask once in the busy hour."""
AIMS = {"live": 2.0, "file": 60.0}
"""Seconds that 95 of 100 wait at most."""
MOST_REFUSED = 0.01
PLACES = 32
"""People who may wait: the pool's default."""
ARRIVALS, WARM_UP = 100_000, 10_000
SPEEDS = {
    "live, H200, fast, 3 steps": ("live", 27.4),
    "files, H200, fast": ("file", 21.5),
    "files, H200, auto": ("file", 17.9),
    "files, H100 of 80 GB, fast": ("file", 20.5),
    "files, H200 limited to 24 GiB, auto": ("file", 15.2),
}
"""Frames per second at 704x384, warm, with random weights: docs/PERFORMANCE.md and README.md."""


@dataclass(frozen=True)
class Waiting:
    """What a line was like.

    Attributes:
        mean, p95: seconds until a session began; of those who were not refused.
        refused: their share.
        busy: mean share of servers at work.
    """

    mean: float
    p95: float
    refused: float
    busy: float


def simulate(
    rate: float,
    draw: Callable[[np.random.Generator], float],
    servers: int,
    places: float = math.inf,
    arrivals: int = ARRIVALS,
    seed: int = 0,
) -> Waiting:
    """A line before ``servers`` that serve one each, first come, first served.

    Args:
        rate: arrivals per second.
        draw: seconds of one service.
        places: how many may wait; whoever comes then is refused.
        arrivals: so many are looked at, behind those of the warm-up.
    """
    random = np.random.default_rng(seed)
    now, worked, began = 0.0, 0.0, None
    free = [0.0] * servers  # when each server is free again
    starts: deque[float] = deque()  # of those who still wait
    waits, refused = [], 0
    for number in range(WARM_UP + arrivals):
        now += random.exponential(1 / rate)
        if number == WARM_UP:
            began = now
        while starts and starts[0] <= now:
            starts.popleft()
        start = max(now, free[0])
        if start > now and len(starts) >= places:
            refused += number >= WARM_UP
            continue
        took = draw(random)
        heapq.heapreplace(free, start + took)
        if start > now:
            starts.append(start)
        if number >= WARM_UP:
            waits.append(start - now)
            worked += took
    found = np.array(waits)
    share = worked / (servers * (now - began))
    return Waiting(float(found.mean()), float(np.percentile(found, 95)), refused / arrivals, float(share))


def fewest(
    rate: float, draw: Callable[[np.random.Generator], float], mean: float, aim: float
) -> tuple[int, Waiting]:
    """The fewest servers with which 95 of 100 wait ``aim`` seconds at most and few are refused; and the line then.

    ``mean`` is that of ``draw``.
    """
    servers = max(1, math.floor(rate * mean))
    while True:
        found = simulate(rate, draw, servers, PLACES)
        if found.p95 <= aim and found.refused <= MOST_REFUSED:
            return servers, found
        servers += 1


def row(kind: str, fps: float, people: int) -> dict[str, Any]:
    """GPUs for so many people."""
    rate = people * BUSY_SHARE / 3600
    if kind == "live":
        if fps < FPS:
            raise ValueError(f"{fps} FPS are slower than life.")
        mean, draw = LIVE_SECONDS, lambda random: random.exponential(LIVE_SECONDS)
    else:
        mean = FILE_SECONDS * FPS / fps
        draw = lambda random: mean  # noqa: E731
    gpus, line = fewest(rate, draw, mean, AIMS[kind])
    return {"people": people, "load": rate * mean, "GPUs": gpus, **asdict(line)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    figures = {name: [row(kind, fps, n) for n in PEOPLE] for name, (kind, fps) in SPEEDS.items()}
    print("Simulated, see the assumptions in this file.")
    print_table(
        ["", "people", "GPUs", "busy, %", "mean wait, s", "95 of 100 wait at most, s", "refused, %"],
        [
            [
                name,
                one["people"],
                one["GPUs"],
                100 * one["busy"],
                one["mean"],
                one["p95"],
                100 * one["refused"],
            ]
            for name, rows in figures.items()
            for one in rows
        ],
    )
    if options.json:
        assumed = {
            "busy share": BUSY_SHARE,
            "live seconds": LIVE_SECONDS,
            "file seconds": FILE_SECONDS,
            "places": PLACES,
            "aims": AIMS,
            "most refused": MOST_REFUSED,
            "speeds": SPEEDS,
        }
        told = {"simulated": True, "environment": environment(torch.device("cpu")), "assumed": assumed}
        options.json.write_text(json.dumps({**told, "rows": figures}, indent=1))


if __name__ == "__main__":
    main()
