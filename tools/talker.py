"""The tiny talker that comes with the pack: its files, and the size that it was trained at."""

from __future__ import annotations

from pathlib import Path

from .environment import ROOT

FOLDER = ROOT / "talker"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "example"
SIDE = 192
"""Width and height of its videos."""


def lora() -> Path:
    """The LoRA that belongs to it."""
    return next((FOLDER / "lora").glob("*.safetensors"))
