"""GPUs that are smaller than they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BALLAST = """
import sys, torch
left, held = int(float(sys.argv[1]) * 2**30), []
for gpu in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(gpu)
    held.append(torch.empty(max(0, free - left), dtype=torch.uint8, device=f"cuda:{gpu}"))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def card_of(gib: float) -> Iterator[None]:
    """Leave ``gib`` of each GPU free, and let the probe say that it has no more; 0 leaves all of it."""
    os.environ["PROBE_GIB"] = str(gib)
    if not gib:
        yield
        return
    command = [sys.executable, "-c", BALLAST, str(gib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not process.stdout.readline():
                raise RuntimeError("The rest of the GPU's memory could not be held: see above.")
            yield
        finally:
            process.stdin.close()
