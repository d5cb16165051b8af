"""Programs that this one starts and that end with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

PATIENCE = 15.0
"""Seconds that a program has to end by itself when it is asked to."""


class Terminated(BaseException):
    """This program was asked to end."""


def end_with_children() -> None:
    """Let a request to end this program (SIGTERM; SIGHUP: its terminal is gone) raise Terminated."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    for name in ("SIGTERM", "SIGHUP"):  # Windows has no second one, and ends programs without asking
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # ignored: by nohup
            signal.signal(number, end)


def run_to_end(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> int:
    """Run a program and return its exit code. When this program is asked to end, so is the other one.

    Ctrl+C reaches both by themselves: the other one is waited for.
    """
    with subprocess.Popen(command, cwd=cwd, env=env) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait()
        finally:
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()  # nothing happens to one that has ended
