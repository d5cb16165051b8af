"""The host of the tests: a real ComfyUI on a free port, with a base directory of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from tools.comfyui import make_tiny_checkpoint, prepare_base
from tools.environment import ROOT, STATE
from tools.host import Host as RunningHost


class Host(RunningHost):
    """``tools.host.Host`` with the pack (and the VideoHelperSuite of ``VHS_PATH``) linked into it."""

    def __init__(self, base: Path):
        folder = Path(os.environ.get("COMFYUI_PATH") or STATE / "host")
        vhs = os.environ.get("VHS_PATH")
        self.has_vhs = vhs is not None
        prepare_base(base, folder, [ROOT, *([Path(vhs).resolve()] if vhs else [])])
        super().__init__(Path(sys.executable), folder, base, cpu=not torch.accelerator.is_available())

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

    def tiny_checkpoint(self) -> Path:
        """The folder of the tiny checkpoint in this host's models, made on the first call."""
        folder = self.models_dir / "liveavatar"
        make_tiny_checkpoint(Path(sys.executable), folder)
        return folder / "tiny"
