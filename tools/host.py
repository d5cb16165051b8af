"""A running ComfyUI: started, driven over its HTTP interface, stopped. Needs the standard library only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.answers import errors, saved

from .comfyui import free_port, host_command
from .connection import Connection, HostError


class Host(Connection):
    """ComfyUI in ``folder``, run by ``python`` with everything under ``base``; use it as a context manager.

    ``base`` must have been made by ``prepare_base``; ``arguments`` are passed on to the host's main.py.
    """

    def __init__(
        self,
        python: Path,
        folder: Path,
        base: Path,
        *,
        cpu: bool,
        port: int = 0,
        arguments: Sequence[str] = (),
    ):
        self.base = base
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.input_dir = base / "input"
        self.output_dir = base / "output"
        self.models_dir = base / "models"
        self.log_file = base / "host.log"
        self.folder = folder
        self.command = host_command(python, folder, base, port=self.port, cpu=cpu, extra=arguments)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Host:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 300.0) -> None:
        """Start the host and wait until it answers. Raises HostError with the end of its log."""
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {}
        # Waiting threads of torch must not spin: on a busy machine that costs more than all the computing.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **group,
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise HostError(f"ComfyUI ended while starting (log: {self.log_file}):\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise HostError(
            f"ComfyUI did not answer within {timeout:.0f} s (log: {self.log_file}):\n{self.log()[-3000:]}"
        )

    def stop(self) -> None:
        """Stop the host: asked first, ended after 15 s."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """Everything that the host has printed."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait(
        self, prompt_id: str, timeout: float = 300.0, watch: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """The history entry of a prompt once it has ended, well or not; ``watch`` is called while waiting."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise HostError(f"ComfyUI ended while it ran the workflow:\n{self.log()[-3000:]}")
            if entry := self.finished(prompt_id):
                return entry
            if watch:
                watch()
            time.sleep(0.05)
        raise HostError(f"The workflow was not finished after {timeout:.0f} s:\n{self.log()[-3000:]}")

    def run(self, workflow: dict[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """Submit, wait and return the history entry; HostError has the error text of the node that failed."""
        entry = self.wait(self.submit(workflow), timeout)
        if problems := self.errors(entry):
            raise HostError("\n".join(problems))
        return entry

    @staticmethod
    def errors(entry: dict[str, Any]) -> list[str]:
        """As `jobs.answers.errors`."""
        return errors(entry)

    def upload(self, path: Path) -> str:
        """Copy a file into the host's input folder and return the name that nodes know it by."""
        shutil.copyfile(path, self.input_dir / path.name)
        return path.name

    def files(self, entry: dict[str, Any]) -> list[Path]:
        """The files that a history entry's outputs name, in node order."""
        roots = {"output": self.output_dir, "input": self.input_dir, "temp": self.base / "temp"}
        return [
            roots[item["type"]] / item["subfolder"] / item["filename"]
            for item in saved(entry)
            if item["type"] in roots
        ]
