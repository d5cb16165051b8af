"""Speed of Ditto at full size with random weights: no checkpoint is needed.

    # a recording in 50, 10 and 5 steps a window, live speech in 10 and 5; plain calls, and CUDA graphs
    python -m benchmarks.ditto --json ditto.json
    # another checkout of this pack beside this one, in the same process and on the same machine
    python -m benchmarks.ditto --against ../before --recording 10 --live --modes graphs
    # a dry run
    python -m benchmarks.ditto --device cpu --frames 10 --recording 1 --live --modes plain

From speech features (25 a second, on the CPU) to frames pasted back into a picture of 1080x1440 pixels (uint8, on the
CPU); HuBERT, which makes the features, is not part of it. Weights of the renderer are float16 on a GPU. A live speech
is given as fast as it is taken, so its figures say how far it stays ahead of real time; its first frames are what comes
after the last features that they need. Medians over ``--runs`` passes after one that does not count.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.ditto.config import FPS, SPEECH_WIDTH
from torch import Tensor

from tools.pack import NAME, register
from tools.tiny_ditto import drawn

from .common import environment, print_table

PICTURE = 1440, 1080
LANDMARKS = np.array([[470.0, 500.0], [610.0, 500.0], [540.0, 580.0], [490.0, 660.0], [590.0, 660.0]])
LIVE_OVERLAP = 70
GIB = 2**30


def part(package: str, module: str) -> Any:
    """A module of this pack, or of another checkout that is registered under its own name."""
    return importlib.import_module(f"{package}.{module}")


def build(device: torch.device, package: str = NAME) -> Any:
    """The engine in the published sizes; weights are random."""
    torch.manual_seed(0)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    ditto = f"{package}.engines.ditto"
    return part(package, "loaders.ditto.networks").assemble(
        part(ditto, "lmdm").MotionModel(),
        part(package, "engines.parts.face.motion_extractor").MotionExtractor(),
        part(ditto, "appearance").AppearanceExtractor(),
        part(ditto, "warping").WarpingNetwork(),
        drawn(part(ditto, "decoder").SpadeDecoder()),
        part(ditto, "stitching").StitchingNetwork(),
        dtype,
        device,
    )


def package_of(engine: Any) -> str:
    return type(engine).__module__.partition(".")[0]


def eyes(square: Tensor) -> tuple[Tensor, Tensor]:
    """Open, and straight ahead."""
    return torch.full((1, 2), 0.35), torch.zeros(1, 6)


def run(engine: Any, source: Any, windows: Any, speech: Tensor) -> dict[str, float]:
    """One pass: seconds in all, and until the first frames are there after the features that they need."""
    taken = [0.0]

    def live() -> Iterator[Tensor]:
        for part in speech.split(windows.stride):
            taken[0] = time.perf_counter()
            yield part

    warm_up = torch.zeros(windows.overlap, SPEECH_WIDTH) if windows.live else None
    began = time.perf_counter()
    taken[0] = began
    first, frames = None, 0
    parts = live() if windows.live else [speech]
    performance = part(package_of(engine), "engines.ditto.pipeline").Performance(windows)
    for block in engine.animate(source, parts, performance, warm_up=warm_up):
        if first is None:
            first = time.perf_counter() - taken[0]
        frames += len(block)
    return {"seconds": time.perf_counter() - began, "first": first, "frames": frames}


def measure(
    engine: Any, source: Any, windows: Any, speech: Tensor, runs: int, device: torch.device
) -> dict[str, Any]:
    """Medians of ``runs`` passes."""
    cold = run(engine, source, windows, speech)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    passes = [run(engine, source, windows, speech) for _ in range(runs)]
    seconds = statistics.median(one["seconds"] for one in passes)
    found = {
        "frames": passes[0]["frames"],
        "FPS": passes[0]["frames"] / seconds,
        "RTF": seconds * FPS / passes[0]["frames"],
        "first frames s": statistics.median(one["first"] for one in passes),
        "first frames s, first pass": cold["first"],
    }
    if device.type == "cuda":
        found["peak allocated GB"] = torch.cuda.max_memory_allocated(device) / 1e9
        found["peak reserved GB"] = torch.cuda.max_memory_reserved(device) / 1e9
    return found


def measured(engine: Any, args: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """A row of figures for every mode and kind of speech."""
    package = package_of(engine)
    runtime, windows_of = (
        part(package, "engines.ditto.runtime"),
        part(package, "engines.ditto.config").WindowConfig,
    )
    picture = torch.randint(0, 256, (*PICTURE, 3), dtype=torch.uint8)
    source = engine.source([(picture, LANDMARKS)], eyes)
    speech = torch.randn(args.frames, SPEECH_WIDTH)
    kinds = [("recording", windows_of(steps=steps)) for steps in args.recording]
    kinds += [("live", windows_of(LIVE_OVERLAP, steps, live=True)) for steps in args.live]
    for mode in args.modes:
        if mode == "graphs":
            runtime.accelerate(engine)
        for kind, windows in kinds:
            found = measure(engine, source, windows, speech, args.runs, device)
            yield {"mode": mode, "speech": kind, "steps": windows.steps, **found}
        runtime.plain(engine)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--recording", nargs="*", type=int, default=[50, 10, 5], metavar="STEPS")
    parser.add_argument("--live", nargs="*", type=int, default=[10, 5], metavar="STEPS")
    parser.add_argument("--modes", nargs="+", choices=["plain", "graphs"], default=["plain", "graphs"])
    parser.add_argument("--card", type=float, default=0, help="GiB that PyTorch is held to; 0: all")
    parser.add_argument("--against", type=Path, help="another checkout, which is measured first")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.card:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(args.card * GIB / total)
    packages = {"here": NAME}
    if args.against:
        register(args.against.resolve(), "before")
        packages = {"before": "before", **packages}
    rows = []
    for code, package in packages.items():
        for row in measured(build(device, package), args, device):
            rows.append({"code": code, **row})
            print(json.dumps(rows[-1]), flush=True)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    if args.json:
        report = {"environment": environment(device), "card GiB": args.card, "rows": rows}
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
