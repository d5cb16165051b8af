"""Ditto's speech network: the published graph, a HuBERT with the keys and values of 20 seconds of speech built in.

The public HuBERT gives other features: the built-in context is in the graph only, and what its layers do with it is
said nowhere else. So the graph itself is computed, by PyTorch or by onnxruntime (`onnx.choice`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...engines.ditto.config import SAMPLES_PER_FRAME, SPEECH_WIDTH
from ...engines.ditto.speech_windows import EXTRA_SAMPLES, ROWS_PER_FRAME, SpeechWindow
from ..onnx.choice import AUTO, Graph, open_graph

NAME = "Ditto's speech network"


class SpeechGraph:
    """The speech network; call it as `speech_windows.Encode` says.

    Attributes:
        network: what PyTorch computes, which is moved to where it is to run; None: onnxruntime computes it.

    Args:
        path: ``hubert_streaming_fix_kv.onnx`` or ``hubert.onnx`` of the published files.
        device: where onnxruntime is to run.
        by: one of `onnx.choice.BACKENDS`.

    Raises:
        RuntimeError: onnxruntime is needed and missing.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu", by: str = AUTO):
        self._graph = open_graph(path, NAME, "input_values", _checked, device, by)
        self.network = self._graph if isinstance(self._graph, nn.Module) else None

    @property
    def on_gpu(self) -> bool:
        return self._graph.on_gpu

    def __call__(self, sound: Tensor) -> Tensor:
        """Features ``[1, (samples - 80) // 320, 1024]`` of sound ``[1, samples]`` of 16 kHz, float32, where the network
        is, or on the CPU."""
        return _features(self._graph, sound)


def _checked(graph: Graph) -> None:
    """Tells another network before anybody waits for it."""
    _features(graph, torch.zeros(1, SpeechWindow().samples))


def _features(graph: Graph, sound: Tensor) -> Tensor:
    rows = graph(sound)[0]
    wanted = (1, (sound.shape[1] - EXTRA_SAMPLES) * ROWS_PER_FRAME // SAMPLES_PER_FRAME, SPEECH_WIDTH)
    if rows.shape != wanted:
        raise graph.other(f"gives features {list(rows.shape)}, not {list(wanted)}")
    return rows
