"""What docs/SERVICE.md shows and clients/ holds, run as a newcomer would, against a real host."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.demo_media import EXAMPLE
from tools.environment import ROOT

from .client import Host
from .media import read_video

CLIENTS = ROOT / "clients"
SHELL = re.findall(r"```sh\n(.+?)```", (ROOT / "docs" / "SERVICE.md").read_text(encoding="utf-8"), re.DOTALL)
SHORT = ["--workflow", "demo", "--seconds", "0.6", "--steps", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a portrait and a speech."""
    for name in ("portrait.png", "speech.ogg"):
        shutil.copyfile(EXAMPLE / name, tmp_path / name)
    return tmp_path


def run(command: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=folder, capture_output=True, timeout=300, env={**os.environ, **environment}
    )


def check(file: Path, frames: int) -> None:
    video = read_video(file)
    assert video.size == (192, 192) and len(video.frames) == frames


def curl(host: Host, sign: str, folder: Path) -> bytes:
    """Run the block of the documentation that has this sign, against the host."""
    if shutil.which("curl") is None or shutil.which("sh") is None:
        pytest.skip("curl is not here")
    (block,) = [block for block in SHELL if sign in block]
    done = run(["sh", "-ec", block.replace("http://127.0.0.1:8188", host.url)], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_sends_base64_and_gets_base64(ready, folder):
    curl(ready, "> answer.json", folder)
    answer = json.loads((folder / "answer.json").read_text())
    (folder / "video.mp4").write_bytes(base64.b64decode(answer["video"]))
    check(folder / "video.mp4", 25)
    assert answer["seed"] == 42 and answer["seconds"] == pytest.approx(1, abs=0.05)


def test_curl_saves_the_video_itself(ready, folder):
    curl(ready, "> video.mp4", folder)
    check(folder / "video.mp4", 25)


def test_curl_gets_addresses_at_once(ready, folder):
    accepted = json.loads(curl(ready, '"wait": false', folder))
    assert ready.get(accepted["status"])["state"] in ("waiting", "running")
    ready.interrupt()
    ready.wait(accepted["id"])


def test_the_python_client_makes_a_video(ready, folder):
    command = [
        sys.executable,
        str(CLIENTS / "liveavatar_client.py"),
        "portrait.png",
        "speech.ogg",
        "video.mp4",
    ]
    done = run([*command, "--url", ready.url, "--seed", "5", *SHORT], folder)
    assert done.returncode == 0, done.stderr
    assert b"video.mp4 is written, seed 5." in done.stderr
    check(folder / "video.mp4", 15)


def test_the_python_client_passes_a_video_on_while_it_is_made(ready, folder):
    command = [sys.executable, str(CLIENTS / "liveavatar_client.py"), "portrait.png", "speech.ogg", "-"]
    done = run([*command, "--url", ready.url, *SHORT], folder)
    assert done.returncode == 0, done.stderr
    (folder / "video.mp4").write_bytes(done.stdout)
    check(folder / "video.mp4", 15)


def test_the_python_client_says_what_the_service_says(ready, folder):
    command = [
        sys.executable,
        str(CLIENTS / "liveavatar_client.py"),
        "portrait.png",
        "speech.ogg",
        "video.mp4",
    ]
    done = run([*command, "--url", ready.url, *SHORT, "--fps", "90"], folder)
    assert done.returncode == 1 and b"Set fps to a number from 15 to 30: it is 90" in done.stderr
    assert not (folder / "video.mp4").exists()


def typescript() -> list[str]:
    """A program that runs TypeScript: the node that NODE_PROGRAM names, or node, bun or deno."""
    node = os.environ.get("NODE_PROGRAM") or shutil.which("node")
    if node:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        if tuple(map(int, re.findall(r"\d+", version)[:2])) >= (22, 6):
            return [node, "--experimental-strip-types"]
    for program, *options in (("bun", "run"), ("deno", "run", "--allow-all")):
        if found := shutil.which(program):
            return [found, *options]
    pytest.skip("nothing here runs TypeScript (node 22.6 or newer, deno, bun; NODE_PROGRAM names one)")


def test_the_typescript_client_makes_a_video(ready, folder):
    command = [
        *typescript(),
        str(CLIENTS / "liveavatar_client.ts"),
        "portrait.png",
        "speech.ogg",
        "video.mp4",
    ]
    done = run([*command, "--url", ready.url, "--seed", "5", *SHORT], folder)
    assert done.returncode == 0, done.stderr
    assert b"video.mp4 is written, seed 5." in done.stderr
    check(folder / "video.mp4", 15)


def test_the_typescript_client_says_what_the_service_says(ready, folder):
    command = [
        *typescript(),
        str(CLIENTS / "liveavatar_client.ts"),
        "portrait.png",
        "speech.ogg",
        "video.mp4",
    ]
    done = run([*command, "--url", ready.url, *SHORT, "--fps", "90"], folder)
    assert done.returncode == 1 and b"Set fps to a number from 15 to 30: it is 90" in done.stderr
