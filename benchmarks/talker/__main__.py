"""Does a tiny talker talk? Lip sync, silence, moods, identity, joints, sharpness and speed, read off its pixels.

    python -m benchmarks.talker --checkpoint talker --out talker.json

The checkpoint is what `training.export` writes. People, voices and texts are held out (`people`); a reader that has
seen drawings of each person, and nothing of the model, reads mouth and lids. The row "drawn" is what the reader makes
of the drawings themselves. `espeak-ng` and `skia-python` are needed, as in `training`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

from benchmarks.common import environment, print_table
from training.figures.clips import SIZE, Drawers

from .checkpoint import Talker
from .measures import lips, looks
from .people import held_out
from .runs import Ways, identity, moods, silence, speed

# isort: split
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import Performance

PEOPLE_WITH_MOODS = 3
QUIET = 6.0
"""Seconds of silence."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "benchmarks.talker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--checkpoint", type=Path, required=True)
    made.add_argument(
        "--decoder", type=Path, help="a small decoder in place of the one in the checkpoint's fast_decoder"
    )
    made.add_argument("--clips", type=int, default=9, help="1 to 9; the three languages take turns")
    made.add_argument("--seconds", type=float, default=8.0, help="of each clip")
    made.add_argument(
        "--minutes", type=float, default=5.0, help="of the long video for identity; 0 leaves it out"
    )
    made.add_argument("--size", type=int, default=SIZE)
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument("--steps", type=int, help="only so many steps; default: 4, 4 without the last, 3")
    made.add_argument("--skip-last-step", action="store_true", help="only without each block's last pass")
    made.add_argument("--fp8", action="store_true", help="matrix products in float8 (a GPU is needed)")
    made.add_argument("--attention8", action="store_true", help="attention to keys and values in 8 bits")
    made.add_argument("--examples", type=int, default=900, help="drawings that each reader learns from")
    made.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, help="write the figures as JSON")
    return made


def configs(args: argparse.Namespace) -> dict[str, SamplingConfig]:
    """The ways to sample that are measured; the first one counts for all the rest."""
    if args.steps or args.skip_last_step:
        steps = args.steps or 4
        name = f"{steps} steps" + " without the last" * args.skip_last_step
        return {name: SamplingConfig(steps=steps, skip_last_step=args.skip_last_step)}
    return {
        "4 steps": SamplingConfig(),
        "4 steps without the last": SamplingConfig(skip_last_step=True),
        "3 steps": SamplingConfig(steps=3),
    }


def load(args: argparse.Namespace, device: torch.device) -> Ways:
    """The talker with its own decoder and, where there is one, with the fast one."""
    performance = Performance(
        fp8=args.fp8, caches=CacheFormat.ATTENTION8 if args.attention8 else CacheFormat.MODEL
    )
    full = Talker.load(args.checkpoint, device, getattr(torch, args.dtype), performance)
    fast = args.decoder or next(iter(sorted((args.checkpoint / "fast_decoder").glob("*.safetensors"))), None)
    return Ways({"VAE": full} | ({"fast decoder": full.with_fast_decoder(fast)} if fast else {}))


def measure(args: argparse.Namespace) -> dict:
    """Everything, with a line for each part as it is done."""
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ways, sampling = load(args, device), configs(args)
    first = next(iter(sampling.values()))
    drawers = Drawers(args.workers)
    try:
        people = held_out(args.clips, args.seconds, args.size, drawers, args.examples)
    finally:
        drawers.close()
    drawn = [one.drawn for one in people]
    report: dict = {"machine": environment(device), "clips": args.clips, "seconds": args.seconds}
    report["ways"] = {"drawn": {**lips(people, drawn), **looks(people, drawn)}}
    for name, config in sampling.items():
        for decoder, found in ways.speak(people, config).items():
            report["ways"][f"{name}, {decoder}"] = found
    show(report["ways"])
    for name, call in {
        "mouth in silence": lambda: silence(ways.talker, people[0], QUIET, first),
        "moods": lambda: moods(ways.talker, people[:PEOPLE_WITH_MOODS], first),
        "seconds per second of video": lambda: speed(ways, people[0], first),
        "distance to the person": lambda: (
            identity(ways.talker, people, args.minutes, first) if args.minutes else {}
        ),
    }.items():
        report[name] = call()
        print(f"{name}: {json.dumps(report[name], indent=2)}", flush=True)
    return report


def show(ways: dict[str, dict]) -> None:
    """A table with a column for each way."""
    names = dict.fromkeys(name for found in ways.values() for name in found)
    cells = {name: [found.get(name) for found in ways.values()] for name in names}
    print_table(["", *ways], [[name, *("-" if v is None else v for v in row)] for name, row in cells.items()])


def main() -> None:
    args = parser().parse_args()
    report = measure(args)
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
