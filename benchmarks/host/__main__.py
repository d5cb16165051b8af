"""The whole way through a real ComfyUI at full size: seconds to the first bytes, frames per second, memory.

    python -m benchmarks.host --host ~/ComfyUI --work /scratch --json host.json
    python -m benchmarks.host --host ~/ComfyUI --work /scratch --card 24 core:auto sdxl core:auto+seed
    python -m benchmarks.host --host ~/ComfyUI --work /scratch core:auto -- / --lowvram / --reserve-vram 4
    python -m benchmarks.host --host .run/host --work dry-run --tiny          # a dry run, also on a CPU

``--work`` gets random weights in the published layouts, which are used again (34 GB for LiveAvatar; a minute on a GPU
machine). A run is ``KIND:PERFORMANCE`` (of LongCat: its precision), one after the other in one host:

    core              own loaders, shipped workflow liveavatar_core
    pose, live        the same with a pose video; with speech that is posted
    bf16, fp8, gguf   ComfyUI's own loaders (+0, +16 GB); ComfyUI-GGUF from GGUF_PATH, with Q8_0 (+17 GB)
    sdxl              no avatar: a picture of 1024x1024 with a checkpoint of SDXL's size (+7 GB)
    ditto             a photograph of 1080x1440 speaks (small stand-ins for its ONNX graphs)
    longcat           LongCat 1.5 at 832x480 (27 GB); longcat8 with a checkpoint in 8 bits (14 GB)
    personalive       a portrait follows a driving video (a tiny checkpoint: whether it runs)

    +seed +portrait +prompt +steps3 +size576x320    what changes against the run before, and stays so
    +gpus2 +graphs +skip                            several GPUs, steps as CUDA graphs, without the last forward
    +copy                                           from here on the float8 copy is kept on the disk (+18 GB)
    +snapshot30 +resume                             interrupted 30 s after its first bytes; the same video gone on with

``--card`` holds each GPU to so many GiB: another process takes the rest of its memory, so all allocators see it. What
follows ``--`` goes to the host; sets of it that are separated by ``/`` get a host each, one after the other, and so do
several cards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)
from tools.comfyui import prepare_base
from tools.environment import ROOT
from tools.host import Host, HostError

from ..common import environment, print_table
from .card import card_of
from .inputs import write_inputs
from .measure import measure
from .prompts import Prompts, kind_of
from .weights import Weights

RUNS = ("core:auto", "core:auto+seed", "core:fast", "core:fast+seed", "core:quality", "core:auto")
COLUMNS = (
    "first bytes s", "all s", "frames", "FPS over all", "allocated GB", "reserved GB", "reserved after GB", "rss GB",
)  # fmt: skip
LOG = 200_000
"""Characters of a host's log that are kept."""


def absolute(path: str) -> Path:
    """A path that means the same in another folder."""
    return Path(path).expanduser().resolve()


def arguments() -> tuple[argparse.Namespace, list[list[str]]]:
    """The benchmark's arguments, and the sets of the host's."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", default=list(RUNS), metavar="KIND:PERFORMANCE+CHANGE")
    parser.add_argument("--host", type=absolute, required=True, help="folder of a ComfyUI")
    parser.add_argument(
        "--work", type=absolute, required=True, help="folder with room for what the runs need"
    )
    parser.add_argument("--card", type=float, action="append", help="GiB that the GPU is held to; 0: all")
    parser.add_argument("--seconds", type=float, default=7, help="of speech")
    parser.add_argument("--limit", type=float, default=240, help="seconds for one run")
    parser.add_argument(
        "--until", type=float, default=0, help="begin no run after so many seconds; 0: all of them"
    )
    parser.add_argument(
        "--json", type=Path, help="where to write the results, and the hosts' logs beside them"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints, 64x64")
    own, further = sys.argv[1:], []
    if "--" in own:
        own, further = own[: own.index("--")], own[own.index("--") + 1 :]
    sets: list[list[str]] = [[]]
    for word in further:
        if word == "/":
            sets.append([])
        else:
            sets[-1].append(word)
    return parser.parse_args(own), sets


def prepare(args: argparse.Namespace) -> tuple[Path, Path]:
    """The host's base directory with everything that the runs need, and a page, of which none is needed."""
    base, page = args.work / "base", args.work / "page"
    kinds = {kind_of(run) for run in args.runs}
    if "gguf" in kinds and not os.environ.get("GGUF_PATH"):
        raise SystemExit("Set GGUF_PATH to the folder of ComfyUI-GGUF, or leave out gguf.")
    prepare_base(base, args.host, [ROOT, *([absolute(os.environ["GGUF_PATH"])] if "gguf" in kinds else [])])
    shutil.copytree(
        Path(__file__).with_name("probe"), base / "custom_nodes" / "host_probe", dirs_exist_ok=True
    )
    Weights(base / "models", args.host, args.tiny).write(kinds)
    write_inputs(base / "input", min(args.seconds, 2) if args.tiny else args.seconds)
    page.mkdir(exist_ok=True)
    (page / "index.html").write_text("<html></html>")
    return base, page


def print_row(row: dict[str, Any]) -> None:
    """What happened in one run beside its figures."""
    figures = [f"{key} {row[key]:.1f}" for key in COLUMNS if isinstance(row.get(key), float)]
    print(f"{row['run']}: {', '.join(figures)}")
    print(f"    seconds: {row.get('seconds')}")
    for name in ("moved", "loaded", "messages", "out of memory", "errors"):
        if row.get(name):
            print(f"    {name}: " + "\n        ".join(map(str, row[name])))
    sys.stdout.flush()


def print_tables(hosts: list[dict[str, Any]]) -> None:
    """One table for each host."""
    for host in hosts:
        print(f"\n{host['card GiB'] or 'all'} GiB, {' '.join(host['arguments']) or 'as it starts by itself'}")
        rows = [
            [
                row["run"],
                *("" if row.get(c) is None else row[c] for c in COLUMNS),
                len(row.get("out of memory", ())),
                len(row["errors"]),
            ]
            for row in host["runs"]
        ]
        print_table(["run", *COLUMNS, "out of memory", "errors"], rows)


def main() -> None:
    args, sets = arguments()
    builder = Prompts(args.tiny)
    prompts = [builder.build(run) for run in args.runs]
    started = time.monotonic()
    base, page = prepare(args)
    print(f"weights and inputs: {time.monotonic() - started:.0f} s", flush=True)
    cuda = torch.cuda.is_available()
    about = {"environment": environment(torch.device("cuda" if cuda else "cpu")), "host": str(args.host)}
    hosts: list[dict[str, Any]] = []
    for card, further in [(card, further) for card in args.card or [0.0] for further in sets]:
        rows: list[dict[str, Any]] = []
        hosts.append({"card GiB": card, "arguments": further, "runs": rows})
        print(f"\n== {card or 'all'} GiB {' '.join(further)}", flush=True)
        shutil.rmtree(
            base / "output", ignore_errors=True
        )  # files of another time would pass for the first bytes
        (base / "output").mkdir()
        with card_of(card if cuda else 0):
            host = Host(
                Path(sys.executable),
                args.host,
                base,
                cpu=not cuda,
                arguments=["--front-end-root", str(page), *further],
            )
            try:
                with host:
                    for run, prompt in zip(args.runs, prompts, strict=True):
                        if args.until and time.monotonic() - started > args.until:
                            break
                        try:
                            rows.append({"run": run, **measure(host, prompt, args.limit)})
                        except Exception as error:
                            rows.append({"run": run, "errors": [str(error)[-1500:]]})
                        print_row(rows[-1])
                        if args.json:  # what is there is worth having, whatever comes
                            args.json.write_text(json.dumps(about | {"hosts": hosts}, indent=1))
                        if host.process.poll() is not None:
                            break
            except HostError as error:
                rows.append({"run": "start", "errors": [str(error)[-1500:]]})
                print_row(rows[-1])
        if args.json:
            args.json.with_suffix(f".{len(hosts)}.log").write_text(host.log()[-LOG:])
    print_tables(hosts)


if __name__ == "__main__":
    main()
