"""Memory does not depend on the length of a video, in any way of consuming a stream."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tools.pack
from benchmarks.memory import ALLOWED, SINKS

SECONDS = 150  # ten minutes of video in all


@pytest.mark.parametrize("sink", SINKS)
def test_resident_memory_stays_flat(sink):
    command = [sys.executable, "-m", "benchmarks.memory", "--one", sink, "--seconds", str(SECONDS)]
    done = subprocess.run(command, cwd=tools.pack.ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["frames"] == 25 * SECONDS and len(found["samples"]) > 50
    assert found["growth"] <= ALLOWED, f"{found['warm'] / 1e6:.0f} MB became {found['greatest'] / 1e6:.0f} MB"
