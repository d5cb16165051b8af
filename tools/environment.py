"""The virtual environment behind ``run.py``: created, filled and checked with the standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .torch_build import CPU_INDEX, CPU_TRIO, TRIO, WINDOWS_CUDA_INDEX, brings_cuda, declare_missing_operators

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".run"
LOG = STATE / "setup.log"

NETWORK_FAILURES = (
    "NewConnectionError",
    "Name or service not known",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "nodename nor servname",
    "Network is unreachable",
    "Max retries exceeded",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
)


class SetupError(RuntimeError):
    """A step of the set-up failed; the message is one sentence for the person who started it."""


def explain(step: str, output: str, log: Path) -> str:
    """One sentence for a failed step, from what its command printed: what failed and what to do."""
    if any(sign in output for sign in NETWORK_FAILURES):
        reason = (
            "the package index cannot be reached: connect to the internet or set PIP_INDEX_URL to a mirror"
        )
    elif missing := re.search(r"No matching distribution found for (\S+)", output):
        python = ".".join(map(str, sys.version_info[:2]))
        reason = (
            f"the package index offers no {missing[1]} for Python {python}: check the connection and "
            f"PIP_INDEX_URL, or use another Python (3.10 to 3.13)"
        )
    elif "No space left on device" in output or "Errno 28" in output:
        reason = "the disk is full: free some gigabytes"
    elif "ensurepip" in output:
        reason = "this Python has no venv module: install it (Debian and Ubuntu: apt install python3-venv)"
    else:
        reason = "the reason is at the end of the log"
    return f"{step} failed, {reason}, then run the same command again (log: {log})."


def read_requirements(text: str) -> list[str]:
    """The requirement lines of a requirements file, without comments, blank lines and options."""
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def requirement_name(requirement: str) -> str:
    """The normalised distribution name of a requirement line, e.g. ``Torch_SDE>=0.2`` -> ``torch-sde``."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def stamp(requirements: Iterable[str]) -> str:
    """A hash that changes when the set of requirements (in any order) or the Python version does."""
    parts = [*sorted(set(requirements)), platform.python_version(), platform.machine()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def has_nvidia_gpu() -> bool:
    """Whether ``nvidia-smi`` exists and lists a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    result = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return result.returncode == 0 and "GPU" in result.stdout


class Environment:
    """The virtual environment in ``folder``; every command it runs is recorded in ``LOG``."""

    def __init__(self, folder: Path = STATE / "venv"):
        self.folder = folder
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamps = folder / "requirements.json"

    def ensure(self, label: str, requirements: Sequence[str]) -> None:
        """Install ``requirements`` (and torch before them) unless the last run left exactly these here.

        ``label`` names the set in progress lines and in the stamp file. Raises SetupError.
        """
        wanted = stamp(requirements)
        done = json.loads(self.stamps.read_text()) if self.stamps.exists() else {}
        if self.python.exists() and done.get(label) == wanted:
            return
        self._create()
        self._ensure_torch()
        say(f"installing {label} ({len(requirements)} requirements)")
        self._pip(f"Installing {label}", "install", *self._torch_constraints(), *requirements)
        self.stamps.write_text(json.dumps({**done, label: wanted}, indent=1))

    def download(self, label: str, requirement: str, folder: Path) -> Path:
        """Download the wheel of ``requirement`` alone into ``folder``, return its path. Raises SetupError."""
        self._create()
        shutil.rmtree(folder, ignore_errors=True)
        say(f"downloading {label}")
        self._pip(f"Downloading {label}", "download", "--no-deps", "--dest", str(folder), requirement)
        return next(folder.glob("*.whl"))

    def has_accelerator(self) -> bool:
        """Whether this environment's torch finds an accelerator (CUDA, MPS, XPU)."""
        return self._python("import torch; assert torch.accelerator.is_available()").returncode == 0

    def _create(self) -> None:
        if self.python.exists():
            return
        say("creating the virtual environment")
        self._run("Creating the virtual environment", [sys.executable, "-m", "venv", str(self.folder)])
        self._pip("Updating pip", "install", "pip>=23.1")  # older ones cannot report what they would install

    def _ensure_torch(self) -> None:
        installed = self._versions()
        if (
            all(name in installed for name in TRIO)
            and self._python(f"import {','.join(TRIO)}").returncode == 0
        ):
            return
        if "torch" in installed:  # somebody chose this build: only add what belongs to it
            self._pip("Installing torchvision", "install", f"torch=={installed['torch']}", *TRIO[1:])
        else:
            self._install_torch()
        declare_missing_operators(self._site_packages())
        check = self._python(f"import {','.join(TRIO)}")
        if check.returncode:
            last = (check.stderr.strip().splitlines() or ["no message"])[-1]
            raise SetupError(
                f"torch, torchvision and torchaudio do not work together in {self.folder} ({last}): "
                f"delete that folder and run the same command again."
            )

    def _install_torch(self) -> None:
        if has_nvidia_gpu():
            say("installing torch for the NVIDIA GPU (several GB)")
            index = ["--extra-index-url", WINDOWS_CUDA_INDEX] if os.name == "nt" else []
            self._pip("Installing torch", "install", *index, *TRIO)
            return
        # Without a GPU the CUDA packages that the usual Linux wheels bring would be gigabytes for nothing.
        say("installing torch for the CPU")
        report = STATE / "torch.json"
        plan = self._pip_output(
            "install", "--dry-run", "--ignore-installed", "--report", str(report), *CPU_TRIO
        )
        if any(sign in plan.stdout for sign in NETWORK_FAILURES) and plan.returncode:
            raise SetupError(explain("Installing torch", plan.stdout, LOG))
        if plan.returncode == 0 and not brings_cuda(json.loads(report.read_text(encoding="utf-8"))):
            self._pip("Installing torch", "install", *CPU_TRIO)
        elif self._pip_output("install", "--retries", "1", "--index-url", CPU_INDEX, *TRIO).returncode:
            say(f"{CPU_INDEX} cannot be used: installing the CUDA build of torch instead (several GB)")
            self._pip("Installing torch", "install", *TRIO)

    def _torch_constraints(self) -> list[str]:
        """pip options that keep the torch packages as they are."""
        versions = self._versions()
        path = STATE / "torch-constraints.txt"
        path.write_text("".join(f"{name}=={versions[name]}\n" for name in TRIO if name in versions))
        return ["--constraint", str(path)]

    def _versions(self) -> dict[str, str]:
        """The installed versions of the torch packages, without importing them."""
        code = (
            "import importlib.metadata as m, json\n"
            f"print(json.dumps({{d.name: d.version for d in m.distributions() if d.name in {TRIO!r}}}))"
        )
        return json.loads(self._python(code).stdout or "{}")

    def _site_packages(self) -> Path:
        return Path(self._python("import sysconfig; print(sysconfig.get_path('platlib'))").stdout.strip())

    def _python(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.python), "-c", code], capture_output=True, text=True, check=False)

    def _pip(self, step: str, *arguments: str) -> None:
        self._run(step, self._pip_command(*arguments))

    def _pip_output(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return logged(self._pip_command(*arguments))

    def _pip_command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]

    def _run(self, step: str, command: Sequence[str]) -> None:
        result = logged(command)
        if result.returncode:
            raise SetupError(explain(step, result.stdout, LOG))


def logged(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and append it and its output to ``LOG``; ``stdout`` of the result holds both streams."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{result.stdout}[exit code {result.returncode}]\n\n")
    return result


def say(text: str) -> None:
    """Print one progress line at once."""
    print(f"[set-up] {text}", flush=True)
