"""What the pack adds to the start of a ComfyUI: hosts are started with and without it, in turn.

    python -m benchmarks.startup --host ComfyUI --json startup.json

"import" is what the host itself reports for the pack's folder, "start" the time until the host answers. The first
start of each kind only fills the caches of files and bytecode and does not count.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import torch

from tools.comfyui import PACK_LINK, prepare_base
from tools.environment import ROOT, STATE
from tools.host import Host

from .common import Figure, environment, print_table

REPORTED = re.compile(rf"([\d.]+) seconds: .*{PACK_LINK}\s*$", re.MULTILINE)
"""The host's line about a pack's import; newer hosts write the level of the message before it."""


def start_once(folder: Path, packs: list[Path]) -> tuple[float, float | None]:
    """Seconds until a fresh host in ``folder`` answers, and those that it reports for our import, if any."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        prepare_base(base, folder, packs)
        begin = time.perf_counter()
        with Host(Path(sys.executable), folder, base, cpu=not torch.cuda.is_available()) as host:
            took = time.perf_counter() - begin
            reported = REPORTED.search(host.log())
        return took, float(reported[1]) if reported else None


def measure(folder: Path, count: int) -> dict[str, Figure]:
    """``count`` starts with the pack and as many without it, after one of each that does not count."""
    bare, full, imports = [], [], []
    for number in range(count + 1):
        without, _ = start_once(folder, [])
        started, imported = start_once(folder, [ROOT])
        if imported is None:
            raise RuntimeError("The host's log has no line about the import of the pack.")
        if number:
            bare.append(without)
            full.append(started)
            imports.append(imported)
    return {
        "import": Figure.of(imports),
        "start with the pack": Figure.of(full),
        "start without it": Figure.of(bare),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, default=STATE / "host", help="a ComfyUI folder")
    parser.add_argument("--count", type=int, default=5, help="starts of each kind that count")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    about = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found = measure(options.host.resolve(), options.count)
    rows = [[name, figure.median, figure.least, figure.greatest] for name, figure in found.items()]
    print_table(["seconds", "median", "least", "greatest"], rows)
    if options.json:
        figures = {name: vars(figure) for name, figure in found.items()}
        options.json.write_text(json.dumps({"environment": about, "seconds": figures}, indent=1))


if __name__ == "__main__":
    main()
