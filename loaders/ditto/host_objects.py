"""Ditto inside ComfyUI, or without a host: its networks where they compute, its ears and its eyes for faces."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...engines.ditto.pipeline import Ditto
from ...engines.ditto.speech_windows import Encode
from ...host.memory import bring, patcher_of
from ..model_folder import ModelFolder
from ..onnx.choice import AUTO
from .face import FaceGraphs
from .files import DITTO, DittoFiles, holds_weights
from .hubert import SpeechGraph
from .networks import load_ditto
from .settings import DittoSettings, read_settings

CHECKPOINTS = ModelFolder("ditto", DITTO, holds_weights)
LIVEPORTRAIT = "liveportrait"
WORKSPACE, WORKSPACE_PER_PIXEL = 2_000_000_000, 250
"""GPU memory in bytes for five frames under way, and what each pixel of the picture adds. On an H200 1080x1440 took 2.4
GB beside the weights."""


class ManagedDitto:
    """The engine on the host's memory management: on the GPU when it is used, moved out for others.

    Args:
        engine: its networks.
        encode: the speech network.
        faces: finds faces and their landmarks.
        settings: the published ones; None: a run goes by the portrait itself.
        device: where it computes without a host; None: the host decides.
    """

    def __init__(
        self,
        engine: Ditto,
        encode: Encode,
        faces: FaceGraphs,
        settings: DittoSettings | None = None,
        device: torch.device | None = None,
    ):
        self.engine, self.encode, self.faces, self.settings = engine, encode, faces, settings
        self.hearing: nn.Module | None = encode.network if isinstance(encode, SpeechGraph) else None
        self.patcher = None
        if device is None:
            from comfy import model_management

            device = model_management.get_torch_device()
            self.patcher = patcher_of(nn.ModuleList(self.networks), device)
        self.device = device

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that are moved together: the engine's, and the one that hears where PyTorch computes it."""
        return self.engine.networks if self.hearing is None else (*self.engine.networks, self.hearing)

    def load(self, height: int, width: int) -> Ditto:
        """The engine with every network where it computes, beside free memory for frames of ``height`` x ``width``."""
        if self.patcher is not None:
            bring([self.patcher], needed(height, width))
        elif self.engine.device != self.device:
            for network in self.networks:
                network.to(self.device)
        return self.engine

    def place(self) -> int:
        """A number for the place of the networks, which changes when the host has moved them."""
        return self.engine.motion_model.final_layer.weight.data_ptr()


def needed(height: int, width: int) -> int:
    """Bytes that frames of a size take beside the weights."""
    return WORKSPACE + WORKSPACE_PER_PIXEL * height * width


def open_ditto(
    files: DittoFiles, dtype: torch.dtype, device: torch.device | None = None, graphs: str = AUTO
) -> ManagedDitto:
    """Everything of a set of files; the small networks come first, so that a fault is told before the large are read.

    Args:
        graphs: what computes the networks that are published as ONNX graphs, one of `onnx.choice.BACKENDS`.
        device: where it computes without a host; None: the host decides.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: see `DittoFiles.check_complete`, `SpeechGraph`, `load_ditto`.
        ValueError: a CPU is to compute in half precision, for which PyTorch lacks the pooling of volumes.
    """
    where = device
    if where is None:
        from comfy import model_management

        where = model_management.get_torch_device()
    if where.type == "cpu" and dtype != torch.float32:
        raise ValueError(
            "Choose 'auto' or 'fp32' as precision of Ditto Load Model: a CPU draws in fp32 only."
        )
    files.check_complete()
    settings = None if files.settings is None else read_settings(files.settings)
    faces = FaceGraphs(files.faces, graphs)
    encode = SpeechGraph(files.speech, where, graphs)
    return ManagedDitto(load_ditto(files, dtype), encode, faces, settings, device)


def liveportrait_folders() -> list[Path]:
    """Folders of LivePortrait in the host's models, whose networks serve where Ditto's folder lacks them."""
    import folder_paths

    return [Path(folder_paths.models_dir) / LIVEPORTRAIT]
