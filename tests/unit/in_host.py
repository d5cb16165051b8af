"""Programs that a test runs in a process of its own, with the host's modules and without its server."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tools.environment import ROOT


def run_in_host(program: str, needs: str = "comfy/sd.py", **values: object) -> None:
    """Run ``program``, in which ``{root}`` and ``values`` are filled in; it ends by printing "fine".

    ``needs`` is a file that the host must have.
    """
    host = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".run" / "host")
    if not (host / needs).is_file():
        pytest.skip(f"no ComfyUI with {needs} here (set COMFYUI_PATH)")
    paths = [str(host), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program).format(root=str(ROOT), **values)],
        check=False,
        cwd=host,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(done.stdout)
    assert done.returncode == 0 and done.stdout.strip().endswith("fine"), done.stderr[-3000:]
