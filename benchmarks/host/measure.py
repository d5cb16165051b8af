"""One prompt of `benchmarks.host`: how long everything took, what it held and what it said."""

from __future__ import annotations

import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import av

from tools.connection import HTTP
from tools.host import Host, HostError

from .prompts import LIVE_ID, Prompt

BEGUN = 2000
"""Bytes of a file in which there is more than a header."""
SUFFIXES = (".mp4", ".png")
PATIENCE = 60
"""Seconds in which a prompt has to end when it is interrupted."""
SAID_OF_MEMORY = "out of memory"
"""What the host's log says where memory ran out, also where something went on in another way."""


def measure(host: Host, prompt: Prompt, limit: float) -> dict[str, Any]:
    """Run one prompt; HostError when it takes more than ``limit`` seconds."""
    live = any(node["class_type"] == "LiveAvatarLiveSpeech" for node in prompt.graph.values())
    host.get("/probe")
    said, there = len(host.log()), _sizes(host, prompt)
    start, first, stopped = time.monotonic(), None, False
    identity = host.submit(prompt.graph)
    stop = threading.Event()
    if live:
        threading.Thread(target=_speak, args=(host, stop), daemon=True).start()

    def watch() -> None:
        nonlocal first, stopped
        now = time.monotonic() - start
        if first is None and any(
            size > max(BEGUN, there.get(path, 0)) for path, size in _sizes(host, prompt).items()
        ):
            first = now
        if prompt.stop is not None and first is not None and not stopped and now - first >= prompt.stop:
            host.interrupt()
            stopped = True

    try:
        entry = host.wait(identity, limit, watch)
    except HostError:
        _clear(host)
        raise
    finally:
        stop.set()  # nobody speaks into a later run
    total = time.monotonic() - start
    watch()
    told = host.get("/probe")
    spent = {
        prompt.graph[part.removeprefix("node ")]["class_type"] if part.startswith("node ") else part: round(
            value, 2
        )
        for part, value in told.pop("seconds").items()
    }
    frames = _frames(host, prompt)
    errors = [error for error in host.errors(entry) if not (stopped and "interrupted" in error)]
    log = [line for line in host.log()[said:].splitlines() if SAID_OF_MEMORY in line.lower()]
    found = {
        "prompt": prompt.name,
        "errors": errors,
        "out of memory": log,
        "messages": told.pop("messages"),
        "moved": told.pop("moved"),
        "loaded": told.pop("loaded"),
        "first bytes s": first,
        "all s": total,
        "frames": frames,
        "FPS over all": frames / total if frames else None,
        "FPS after the first bytes": frames / (total - first) if frames and first and total > first else None,
    }
    snapshots = host.output_dir.glob("video/*.resume.safetensors")
    found["snapshots GB"] = sum(path.stat().st_size for path in snapshots) / 1e9
    return found | {"seconds": spent} | {f"{key} GB": value / 1e9 for key, value in told.items()}


def _clear(host: Host) -> None:
    """Stop what runs, so that the next prompt's clock starts when it does."""
    for _ in range(PATIENCE):
        if host.process.poll() is not None or not host.get("/queue")["queue_running"]:
            return
        host.interrupt()
        time.sleep(1)


def _sizes(host: Host, prompt: Prompt) -> dict[Path, int]:
    files = host.output_dir.glob(f"video/{prompt.name}*")
    return {path: path.stat().st_size for path in files if path.suffix in SUFFIXES}


def _frames(host: Host, prompt: Prompt) -> int:
    """Frames in the newest video."""
    videos = [path for path in _sizes(host, prompt) if path.suffix == ".mp4"]
    for file in sorted(videos)[-1:]:
        with av.open(str(file)) as container:
            return sum(1 for _ in container.decode(video=0))
    return 0


def _speak(host: Host, stop: threading.Event) -> None:
    """Post the speech once the run listens, and end it."""
    body = (host.input_dir / "speech.wav").read_bytes()
    for path, data in ((LIVE_ID, body), (f"{LIVE_ID}/end", b"")):
        while not stop.wait(0.1):
            try:
                request = urllib.request.Request(f"{host.url}/liveavatar/speech/{path}", data, method="POST")
                HTTP.open(request, timeout=30)
                break
            except OSError:
                continue
