"""What each choice of performance brings: LiveAvatar's table of the README, from one process on one GPU.

    python -m benchmarks.choices --json choices.json
    python -m benchmarks.choices --only fast "fast, 3 steps"
    python -m benchmarks.choices --gpus 2 --json two.json
    python -m benchmarks.choices --config tiny --size 64x64 --device cpu --only quality   # a dry run

All rows use the same random weights, in bf16 first and then in float8; each is measured as by
`benchmarks.liveavatar`, whose flags stand beside it. The first run of a row meets new sizes, but only that of the first
row a new process. The last rows are so small that the GPU waits: a block takes as
long there as Python needs to ask for its kernels, which no larger one can undercut on that computer.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import torch

from .common import environment, print_table
from .liveavatar import Benchmark, Models, parse, save

FAST = "--fp8 --attention8"
ROWS = {
    "quality": "",
    "auto": "--fp8",
    "auto, in turn": "--fp8 --no-ahead",
    "auto, 3 steps": "--fp8 --steps 3",
    "fast": FAST,
    "fast, in turn": f"{FAST} --no-ahead",
    "fast, fast decoder": f"{FAST} --decoder fast",
    "fast, 3 steps": f"{FAST} --steps 3",
    "fast, 3 steps, fast decoder": f"{FAST} --steps 3 --decoder fast",
    "auto, without the last forward": "--fp8 --skip-last-step",
    "fast, without the last forward": f"{FAST} --skip-last-step",
    "fast, without it, fast decoder": f"{FAST} --skip-last-step --decoder fast",
    "fast, 3 steps without the last forward": f"{FAST} --steps 3 --skip-last-step",
    "fast, 576x320": f"{FAST} --size 576x320",
    "fast, 384x256": f"{FAST} --size 384x256",
    "auto, 128x64": "--fp8 --size 128x64",
    "fast, 128x64": f"{FAST} --size 128x64",
}


def measure(flags: str, options: list[str], models: Models | None) -> tuple[dict[str, Any], Models]:
    """One row's report, and the models for the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    benchmark = Benchmark(parse([*options, *flags.split()]), models)
    benchmark.build()
    return {"flags": flags, **benchmark.measure()}, benchmark.models


def show(report: dict[str, dict[str, Any]]) -> None:
    rows = []
    for name, row in report.items():
        times, memory = row["times_ms"], row.get("memory_GB", {})
        rows.append(
            [
                name,
                row["gpus"] or times["step, full"].median,
                times["end to end per block"].median,
                row["fps"]["end to end"],
                times["first frames"].median / 1e3,
                row["cold_ms"]["first frames"] / 1e3,
                *memory.values(),
            ]
        )
    header = [
        "",
        "ms per step, or the GPUs' steps",
        "ms per block, end to end",
        "FPS end to end",
        "first frames, s",
        "in the first run, s",
    ]
    print_table([*header, "peak allocated GB", "peak reserved GB"][: len(rows[0])], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="by name")
    parser.add_argument("--size", default="704x384", help="where a row does not name another")
    parser.add_argument("--blocks", help="9, and 4 more for each further GPU and for graphs")
    parser.add_argument("--graphs", action="store_true", help="replay denoising steps as CUDA graphs")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share the steps of a block")
    parser.add_argument("--config", choices=["14b", "tiny"], default="14b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write all figures to this file, after every row anew")
    args = parser.parse_args()
    blocks = args.blocks or str(9 + 4 * (args.gpus - 1) + 4 * args.graphs)
    options = ["--size", args.size, "--blocks", blocks, "--config", args.config, "--device", args.device]
    options += ["--gpus", str(args.gpus), *(["--graphs"] if args.graphs else [])]
    found = {"environment": environment(torch.device(args.device)), "rows": {}}
    print(json.dumps(found["environment"]), flush=True)
    models = None
    for name, flags in ROWS.items():
        if name in args.only:
            found["rows"][name], models = measure(flags, options, models)
            show({name: found["rows"][name]})
            save(found, args.json)
    show(found["rows"])


if __name__ == "__main__":
    main()
