"""The package as the registry ships it: the committed files without those of .comfyignore, in a host of its own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

from tools.comfyui import prepare_base
from tools.environment import ROOT, STATE
from tools.host import Host

LARGEST = 40e6  # bytes


def ignored(name: str, patterns: list[str]) -> bool:
    """Whether a line of .comfyignore, a folder or a pattern from the pack's root, names the file."""
    return any(
        name.startswith(pattern) if pattern.endswith("/") else fnmatchcase(name, pattern)
        for pattern in patterns
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the registry's package unpacks to."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the pack has no history to pack it from")
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    folder = tmp_path_factory.mktemp("registry") / "comfyui-liveavatar"
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        members = [member for member in packed if member.isfile() and not ignored(member.name, patterns)]
        for member in members:
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.extractfile(member).read())
    return folder


def test_the_package_is_small_and_without_what_serves_development(package):
    files = [path for path in package.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert {path.name for path in package.iterdir()}.isdisjoint(
        {"tests", "tools", "training", "benchmarks", "run.py"}
    )


def test_the_registry_is_told_where_icon_and_banner_are(package):
    about = (package / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("Icon", "Banner"):
        address = re.search(rf'^{name} = "(https://[^"]+)"$', about, re.M)
        assert address and (package / address[1].partition("/main/")[2]).is_file()


def test_the_package_starts_in_a_host_and_brings_all_it_needs(package, tmp_path):
    folder = Path(os.environ.get("COMFYUI_PATH") or STATE / "host")
    prepare_base(tmp_path, folder, [package])
    running = Host(Path(sys.executable), folder, tmp_path, cpu=not torch.accelerator.is_available())
    with running as host:
        nodes = host.get("/object_info")
        assert "LiveAvatarSampler" in nodes and "PersonaLiveAnimate" in nodes
        templates = host.get("/workflow_templates")["comfyui-liveavatar"]
        assert sorted(templates) == sorted(path.stem for path in package.glob("workflows/*.json"))
        assert "LiveAvatarSampler" in host.get("/i18n")["ja"]["nodeDefs"]
        assert (tmp_path / "input" / "liveavatar_speech.ogg").is_file()
        assert "Traceback" not in host.log() and "IMPORT FAILED" not in host.log()
        assert any("live.js" in path for path in host.get("/extensions"))
        shipped = nodes["LiveAvatarLoadCheckpoint"]["input"]["required"]["checkpoint"]
        assert "tiny talker (shipped)" in str(shipped)
