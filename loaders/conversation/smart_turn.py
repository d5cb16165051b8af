"""Smart Turn v3: whether a turn sounds finished, in 23 languages. BSD-2-Clause; needs onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...conversation.roles import EARS_RATE
from ..hub import resolve_snapshot
from ..onnx.runtime import RuntimeGraph
from .files import need, roots

REPO = "pipecat-ai/smart-turn-v3"
FILE = "smart-turn-v3.2-cpu.onnx|smart-turn-v3.1-cpu.onnx|smart-turn-v3.0.onnx"
SECONDS = 8
"""It looks at so much of a turn's end."""
THREADS = 2
"""More would take the CPU from what makes the video."""


def find_smart_turn(download: bool, progress: Callable[[int, int], None]) -> SmartTurn:
    """The model, as `conversation.turns.Finished`.

    Raises as `resolve_snapshot` does, or ModuleNotFoundError where onnxruntime is missing.
    """
    need("onnxruntime")
    folder = resolve_snapshot(REPO, [FILE], roots(), download, progress)
    return SmartTurn(next(folder / name for name in FILE.split("|") if (folder / name).is_file()))


class SmartTurn:
    """A Whisper encoder with one output, in 8 bits: 10 to 100 ms on a CPU, by its makers."""

    def __init__(self, path: Path) -> None:
        from transformers import WhisperFeatureExtractor

        self._graph = RuntimeGraph(path, "Smart Turn", "input_features", threads=THREADS)
        self._features = WhisperFeatureExtractor(chunk_length=SECONDS)

    def __call__(self, sound: Tensor) -> float:
        """How likely a turn is finished: float32 samples [S] at 16 kHz; silence is put before a short one."""
        size = SECONDS * EARS_RATE
        end = sound[-size:].numpy()
        end = np.pad(end, (size - len(end), 0))
        features = self._features(end, sampling_rate=EARS_RATE, return_tensors="np", do_normalize=True)
        likely, *_ = self._graph(torch.from_numpy(features.input_features))
        return float(likely.flatten()[0])
