"""The memory of a host in which somebody converses for a long time.

    python -m benchmarks.conversations.soak --host ~/ComfyUI --work DIR [--minutes 30] [--json soak.json]

A real ComfyUI runs the shipped workflow of a conversation with the shipped talker on the CPU, and scripted services.
A question is asked in writing or by voice as soon as the answer before was heard; every fourth answer is interrupted.
The process' memory is read twice a minute; after the first five minutes it has to stay within 3 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from tools.caller import Caller, conversation_workflow
from tools.comfyui import prepare_base
from tools.environment import ROOT
from tools.host import Host
from tools.scripted_services import Script, running_services

from ..common import environment, print_table

ID = "a-benchmark-that-converses-1"
SIZE = (64, 64)
LOOK_SECONDS = 30.0
WARM_UP_MINUTES, ALLOWED = 5.0, 0.03
COLUMNS = ("minutes", "memory MB", "threads", "open files", "answers", "seconds of video")


async def look(process: psutil.Process, caller: Caller, host: Host, rows: list[dict[str, Any]]) -> None:
    """Add a row of figures every half minute."""
    begun = time.monotonic()
    while True:
        stream = (await asyncio.to_thread(host.get, f"/liveavatar/streams?workflow={ID}"))[:1]
        rows.append(
            {
                "minutes": round((time.monotonic() - begun) / 60, 1),
                "memory MB": round(process.memory_info().rss / 1e6, 1),
                "threads": process.num_threads(),
                "open files": process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
                "answers": len(caller.of("timings")),
                "seconds of video": round(stream[0]["frames"] / stream[0]["fps"]) if stream else 0,
            }
        )
        print(*rows[-1].values(), flush=True)
        await asyncio.sleep(LOOK_SECONDS)


async def converse(host: Host, minutes: float) -> list[dict[str, Any]]:
    """Ask until the time is over."""
    rows: list[dict[str, Any]] = []
    async with Caller(host.url, ID) as caller:
        await caller.until(lambda: caller.told, 300)
        looking = asyncio.create_task(look(psutil.Process(host.process.pid), caller, host, rows))
        ends, number = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < ends:
            said, number = len(caller.of("said")), number + 1
            if number % 2:
                await caller.send(type="text", text=f"This is question number {number}.")
            else:
                await caller.hum(0.8)
                await caller.hum(0.8, 0)
            await caller.until(lambda said=said: len(caller.of("said")) > said, 300)
            if number % 4 == 0:
                await caller.hum(0.6)  # which interrupts
                await caller.hum(0.8, 0)
            await caller.until(lambda: caller.told[-1] == {"type": "state", "state": "listening"}, 300)
        if looking.done():
            looking.result()  # which raises: figures of a part of the time would say nothing
        looking.cancel()
        await caller.send(type="end")
        await caller.until(lambda: caller.of("end"), 300)
        if errors := caller.of("error"):
            raise SystemExit(f"The conversation had errors: {errors}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=Path, required=True, help="folder for the host's files")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    base, folder = args.work.expanduser().resolve(), args.host.expanduser().resolve()
    prepare_base(base, folder, [ROOT])
    with (
        running_services(Script()) as url,
        Host(Path(sys.executable), folder, base, cpu=True) as host,
    ):
        prompt = host.submit(
            conversation_workflow(url, ID, SIZE), extra_data={"extra_pnginfo": {"workflow": {"id": ID}}}
        )
        rows = asyncio.run(converse(host, args.minutes))
        if errors := host.errors(host.wait(prompt)):
            raise SystemExit("\n".join(errors))
    print_table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    warm = [row["memory MB"] for row in rows if row["minutes"] >= WARM_UP_MINUTES]
    growth = max(warm) / warm[0] - 1 if warm else None
    if args.json:
        about = {"environment": environment(torch.device("cpu")), "size": list(SIZE), "growth": growth}
        args.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    if growth is None:
        print(f"Too short to tell: the first {WARM_UP_MINUTES:g} minutes do not count.")
    elif growth > ALLOWED:
        raise SystemExit(
            f"Memory grew by {growth:.1%} in {rows[-1]['minutes'] - WARM_UP_MINUTES:.0f} minutes."
        )


if __name__ == "__main__":
    main()
