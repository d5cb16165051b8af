"""A pool of tiny talkers in processes of its own, and what tests ask it."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from tools.comfyui import free_port
from tools.environment import ROOT

EXAMPLE = ROOT / "talker" / "example"
START_SECONDS, PATIENCE_SECONDS = 600.0, 480.0
RATE = 24_000


class Pool:
    """A running pool."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self, path: str, body: Any = None, method: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        """Status, headers and body of an answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def told(self, path: str, body: Any = None, method: str | None = None) -> dict[str, Any]:
        """The JSON of an answer that is no refusal."""
        status, _, data = self.ask(path, body, method)
        assert status < 300, (status, data[:300], self.log.read_text()[-3000:])
        return json.loads(data)

    def health(self) -> dict[str, Any]:
        """The figures, whatever the status."""
        return json.loads(self.ask("/liveavatar/health")[2])

    def submit(self, **wish: Any) -> dict[str, Any]:
        """A file job that is not waited for."""
        return self.told("/liveavatar/generate", {**files(), "seed": 7, "wait": False, **wish})

    def status(self, video: dict[str, Any]) -> dict[str, Any]:
        """How far a file job is."""
        return self.told(video["status"])

    def finished(self, video: dict[str, Any]) -> bytes:
        """A file job's video, waited for."""
        until(lambda: self.status(video)["state"] not in ("waiting", "running"))
        assert self.status(video)["state"] == "finished", (self.status(video), self.log.read_text()[-3000:])
        return self.ask(video["file"])[2]

    def open(self, **wish: Any) -> dict[str, Any]:
        """A live session that is not begun."""
        picture = files()["reference_image"]
        return self.told("/liveavatar/live", {"reference_image": picture, "seed": 3, **wish})

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of a deployment."""
        everyone = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in everyone if f"ServeReplica:liveavatar:{name}" in " ".join(_command(one))]

    def kill(self, name: str) -> None:
        """End all processes of a deployment as a crash does."""
        found = self.processes(name)
        assert found, "nobody is there to be killed"
        for process in found:
            process.kill()

    def quiet(self) -> None:
        """Wait until nobody is served and nobody waits."""
        until(lambda: self.health()["queue"] == {"running": 0, "waiting": 0})


@contextmanager
def running_pool(folder: Path, *arguments: str) -> Iterator[Pool]:
    """A pool with its file jobs in ``folder``; ended with all that it has started."""
    port, log = free_port(), folder / "pool.log"
    command = [
        sys.executable,
        "-m",
        "pool",
        "--device",
        "cpu",
        "--cpus",
        "0.25",
        "--steps",
        "1",
        "--size",
        "128x128",
    ]
    command += ["--port", str(port), "--videos", str(folder / "videos"), *arguments]
    # The token is the test's own, so nothing is written into anybody's home; how full this machine is, is no matter.
    own = {"RAY_AUTH_TOKEN": secrets.token_hex(20), "RAY_memory_monitor_refresh_ms": "0"}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stdout=out, stderr=out)
    pool = Pool(process, port, log)
    try:
        until(lambda: "pool listens" in log.read_text() or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, log.read_text()[-3000:]
        yield pool
    finally:
        _end(process)


def files(portrait: str = "portrait.png") -> dict[str, str]:
    """Portrait and speech of the tiny talker in base64."""
    names = {"reference_image": portrait, "audio": "speech.ogg"}
    return {name: base64.b64encode((EXAMPLE / file).read_bytes()).decode() for name, file in names.items()}


def said(seconds: float) -> bytes:
    """The beginning of the example's speech as 16-bit samples at 24 kHz."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(EXAMPLE / "speech.ogg")) as file:
        parts = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    return b"".join(part.to_ndarray().tobytes() for part in parts)[: 2 * round(seconds * RATE)]


def frames(video: bytes) -> np.ndarray:
    """The frames of an mp4, [F, H, W, 3]."""
    with av.open(io.BytesIO(video)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def sound(video: bytes) -> np.ndarray:
    """The sound of an mp4 at 48 kHz, [S]."""
    with av.open(io.BytesIO(video)) as file:
        return np.concatenate([frame.to_ndarray().mean(0) for frame in file.decode(audio=0)])


def until(true: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until something is the case, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "this has not happened in time"
        time.sleep(0.1)
    return found


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _end(process: subprocess.Popen) -> None:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    process.send_signal(signal.SIGKILL)
    process.wait()
    for child in children:
        if child.is_running():
            child.kill()
