"""The long attack list: ``python -m tests.soak`` runs it and prints what survived; an hour on two cores.

    python -m tests.soak                          everything
    python -m tests.soak kills linked             some kinds of attacks
    python -m tests.soak typed --only AvatarBatch some nodes

The host is the one of the tests (COMFYUI_PATH). Every attack that was not survived, and every raw error, is printed;
``--json`` keeps all.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import tools.pack  # noqa: F401 - registers the package ``avatar``

from . import files, inputs, kills
from .attack import Outcome, run
from .stage import Stage, on_stage

WORKFLOWS = {
    "linked": inputs.linked,
    "missing": inputs.missing,
    "typed": inputs.typed,
    "files": files.attacks,
}
"""Kinds of attacks that are workflows."""
KINDS = ("kills", *WORKFLOWS)


def main() -> int:
    """Run the attacks; 1 when one was not survived."""
    options = _options()
    logging.disable(logging.CRITICAL)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            for outcome in _outcomes(Path(folder), options.kinds, options.only):
                outcomes.append(outcome)
                if not outcome.survived:
                    print(f"{outcome.verdict}: {outcome.name}: {outcome.said[:400]}", flush=True)
    finally:
        _print_table(outcomes)
        print(
            f"{time.monotonic() - began:.0f} s on {platform.platform()}, Python {platform.python_version()}"
        )
        if options.json:
            rows = [[one.kind, one.name, one.verdict, one.said, one.seconds] for one in outcomes]
            options.json.write_text(json.dumps(rows, indent=0))
    return 0 if all(outcome.survived for outcome in outcomes) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition(":")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--only", default="", help="beginning of the names of attacks that are workflows")
    parser.add_argument("--json", type=Path, help="file for all outcomes")
    options = parser.parse_args()
    options.kinds = options.kinds or list(KINDS)
    return options


def _outcomes(folder: Path, kinds: list[str], only: str) -> Iterator[Outcome]:
    if "kills" in kinds:
        for stopped in (False, True):
            (folder / f"kills-{stopped}").mkdir()
            for line, fault in kills.attacks(folder / f"kills-{stopped}", stopped):
                yield Outcome("kills", f"{line} {stopped}", "raw" if fault else "worked", fault or "", 0.0)
    if kinds == ["kills"]:
        return
    (folder / "host").mkdir()
    with on_stage(folder / "host") as stage:
        stage.check()
        spared = [node for node in stage.host.pack_nodes() if stage.workflow_with(node) is None]
        print(f"No workflow has these nodes, so they are not attacked: {', '.join(sorted(spared))}")
        for kind, attacks in WORKFLOWS.items():
            if kind in kinds:
                yield from _of_workflows(stage, attacks, only)


def _of_workflows(stage: Stage, attacks: Callable, only: str) -> Iterator[Outcome]:
    for attack in attacks(stage):
        if attack.name.startswith(only):
            outcome = run(stage.host, attack)
            yield outcome
            if outcome.verdict == "ended":
                stage.host.start()


def _print_table(outcomes: list[Outcome]) -> None:
    print(
        f"\n{'attacks':10} {'all':>6} {'survived':>9} {'raw errors':>11} {'slow':>5} {'ended the host':>15}"
    )
    for kind in [*dict.fromkeys(one.kind for one in outcomes), "all"]:
        counts = Counter(one.verdict for one in outcomes if kind in (one.kind, "all"))
        survived = sum(one.survived for one in outcomes if kind in (one.kind, "all"))
        print(
            f"{kind:10} {counts.total():6} {survived:9} {counts['raw']:11} {counts['slow']:5} {counts['ended']:15}"
        )


if __name__ == "__main__":
    sys.exit(main())
