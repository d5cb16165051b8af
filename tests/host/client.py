"""The host of the tests: a real ComfyUI on a free port, with a base directory of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from tools.comfyui import prepare_base
from tools.environment import ROOT, STATE
from tools.host import Host as RunningHost

NUMBERED_STREAM = ROOT / "benchmarks" / "player_probe"


class Host(RunningHost):
    """``tools.host.Host`` with the pack, a node that makes a stream at a given pace, and the packs that
    ``VHS_PATH`` and ``GGUF_PATH`` name.

    ``page`` is a folder of page files to be served in place of the host's own; ``arguments`` are further ones for
    the host's main.py.
    """

    def __init__(self, base: Path, page: Path | None = None, arguments: Sequence[str] = ()):
        folder = Path(os.environ.get("COMFYUI_PATH") or STATE / "host")
        others = {name: os.environ.get(name) for name in ("VHS_PATH", "GGUF_PATH")}
        self.has_vhs, self.has_gguf = (bool(path) for path in others.values())
        prepare_base(
            base, folder, [ROOT, NUMBERED_STREAM, *(Path(path).resolve() for path in others.values() if path)]
        )
        super().__init__(
            Path(sys.executable),
            folder,
            base,
            cpu=not torch.accelerator.is_available(),
            arguments=[*arguments, *(() if page is None else ("--front-end-root", str(page)))],
        )
        if page is not None:
            self.log_file = base / "host-with-other-page.log"

    def memory(self) -> int:
        """Resident memory of the host's process in bytes."""
        return psutil.Process(self.process.pid).memory_info().rss

    def pack_nodes(self) -> dict[str, dict[str, Any]]:
        """What the host knows about this pack's nodes: id -> entry of /object_info."""
        nodes = self.get("/object_info")
        return {
            name: node
            for name, node in nodes.items()
            if node["python_module"] == "custom_nodes.ComfyUI-LiveAvatar"
        }

    def video(self, workflow: dict[str, Any]) -> Path:
        """Run a workflow that writes one video into the output folder and return that file."""
        return self.saved_video(self.run(workflow))

    def saved_video(self, entry: dict[str, Any]) -> Path:
        """The one video that a history entry names in the output folder."""
        files = [file for file in self.files(entry) if file.is_relative_to(self.output_dir)]
        (path,) = [file for file in files if file.suffix == ".mp4"]
        return path
