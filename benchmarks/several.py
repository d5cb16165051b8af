"""LiveAvatar shared by several GPUs: the table "Several GPUs" of docs/PERFORMANCE.md, as far as there is time.

    python -m benchmarks.several --json several.json                       # every number of GPUs that there is
    python -m benchmarks.several --gpus 2 4 --limit 500 --size 720x400
    python -m benchmarks.several --gpus 2 --config tiny --size 64x64 --device cpu --calls-only    # a dry run

Each number of GPUs gets two processes of `benchmarks.choices`, one that replays steps as CUDA graphs and one that calls
them; graphs and many GPUs come first. Rows that are done when the time is over, or when a process fails, are kept; then
it ends with an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from .choices import ROWS
from .common import print_table

TABLE = ("fast", "fast, without the last forward", "auto", "quality")
COLUMNS = (
    "GPUs",
    "row",
    "steps",
    "shared as",
    "ms per block",
    "FPS",
    "first frames, s",
    "peak GB of the fullest",
)


def measure(gpus: int, graphs: bool, args: argparse.Namespace, limit: float) -> dict[str, Any]:
    """The rows of one process of `benchmarks.choices`, those that it finished within ``limit`` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.choices", "--gpus", str(gpus), "--json", str(file)]
        command += [*(["--graphs"] if graphs else []), "--size", args.size, "--config", args.config]
        command += ["--device", args.device, "--only", *args.rows]
        try:
            subprocess.run(command, timeout=limit, check=True)
            error = ""
        except subprocess.TimeoutExpired:
            error = "the time was over"
        except subprocess.CalledProcessError as failed:
            error = f"benchmarks.choices ended with {failed.returncode}: see above"
        found = json.loads(file.read_text()) if file.exists() else {"rows": {}}
        return {**found, "error": error}


def steps_of(part: dict[str, Any]) -> str:
    """How a process did its steps, for people."""
    return "graphs" if part["graphs"] else "calls"


def table(found: list[dict[str, Any]]) -> list[list[Any]]:
    """One row for each that was measured."""
    rows = []
    for part in found:
        for name, row in part["rows"].items():
            block, first = (
                row["times_ms"][key]["median"] for key in ("end to end per block", "first frames")
            )
            peak = row.get("memory_GB", {}).get("peak allocated", "")
            shared = row["gpus"] or "one GPU"
            rows.append(
                [
                    part["gpus"],
                    name,
                    steps_of(part),
                    shared,
                    block,
                    row["fps"]["end to end"],
                    first / 1e3,
                    peak,
                ]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    there = torch.cuda.device_count()
    parser.add_argument("--gpus", type=int, nargs="+", default=list(range(there, 0, -1)) or [1])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(TABLE), metavar="ROW")
    parser.add_argument("--size", default="704x384")
    parser.add_argument("--config", choices=["14b", "tiny"], default="14b")
    parser.add_argument("--device", default="cuda" if there else "cpu")
    parser.add_argument("--calls-only", action="store_true", help="no CUDA graphs")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for everything")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    end, found = time.monotonic() + args.limit, []
    for graphs in (False,) if args.calls_only else (True, False):
        for gpus in args.gpus:
            left = end - time.monotonic()
            if left > 0:
                found.append({"gpus": gpus, "graphs": graphs, **measure(gpus, graphs, args, left)})
                if args.json:
                    args.json.write_text(json.dumps(found, indent=1))
    print_table(list(COLUMNS), table(found))
    errors = [f"{part['gpus']} GPUs, {steps_of(part)}: {part['error']}" for part in found if part["error"]]
    if errors:
        raise SystemExit("Not all was measured. " + "; ".join(errors))


if __name__ == "__main__":
    main()
