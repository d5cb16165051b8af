"""A tiny Ditto without a host, and portraits for it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
import torch
from avatar.loaders.ditto.files import find_files
from avatar.loaders.ditto.host_objects import ManagedDitto, open_ditto
from avatar.media.driving import open_driving
from avatar.sessions.ditto_source import prepare_source

from tests.unit.loaders.ditto.test_face import picture
from tools.tiny_ditto import write_tiny_ditto

pytest.importorskip("onnxruntime")
graphs = pytest.importorskip("tools.tiny_ditto_graphs")


@functools.cache
def tiny() -> ManagedDitto:
    """The engine, its ears and its eyes, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        graphs.write_graphs(Path(folder))
        files = find_files(str(write_tiny_ditto(Path(folder))), Path("unused"))
        ditto = open_ditto(files, torch.float32, torch.device("cpu"))
    ditto.engine._render = draw
    ditto.engine.use_networks()
    return ditto


def draw(volume: torch.Tensor, source: torch.Tensor, driving: torch.Tensor) -> torch.Tensor:
    """A square of one colour that tells motions apart, in place of the renderer, which takes most of the time."""
    return driving[:, 6, :, None, None].sigmoid().expand(-1, -1, 512, 512)


def prepared(images: torch.Tensor, fps: float = 25.0, who: str = "largest", **options):
    """Source and square of an IMAGE [n, H, W, C]."""
    return prepare_source(tiny(), open_driving(images, fps), who=who, **options)


def image(height: int = 200, width: int = 300, *discs: tuple[int, int, int]) -> torch.Tensor:
    """An IMAGE [1, H, W, 3] with faces (x, y, radius), by default one in the middle."""
    discs = discs or ((width // 2, height // 2, min(height, width) // 5),)
    return picture(height, width, *discs)[None].float() / 255


@functools.cache
def portrait():
    """A portrait that several tests use."""
    return prepared(image())[0]
