"""Ditto's speech network: the published graph, a HuBERT with the keys and values of 20 seconds of speech built in.

The public HuBERT gives other features, because the built-in context is in the graph only. So onnxruntime computes it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...engines.ditto.config import SAMPLES_PER_FRAME, SPEECH_WIDTH
from ...engines.ditto.speech_windows import EXTRA_SAMPLES, ROWS_PER_FRAME, SpeechWindow
from ..onnx_graph import OnnxGraph


class SpeechGraph:
    """The speech network on the CPU or an NVIDIA GPU; call it as `speech_windows.Encode` says.

    Args:
        path: ``hubert_streaming_fix_kv.onnx`` or ``hubert.onnx`` of the published files.
        device: where it is to run.

    Raises:
        RuntimeError: onnxruntime is missing.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        self._graph = OnnxGraph(path, "Ditto's speech network", "input_values", device)
        self(torch.zeros(1, SpeechWindow().samples))  # tells another network before anybody waits for it

    @property
    def on_gpu(self) -> bool:
        return self._graph.on_gpu

    def __call__(self, sound: Tensor) -> Tensor:
        """Features ``[1, (samples - 80) // 320, 1024]`` of sound ``[1, samples]`` of 16 kHz, float32 on the CPU."""
        rows = self._graph(sound)[0]
        wanted = (1, (sound.shape[1] - EXTRA_SAMPLES) * ROWS_PER_FRAME // SAMPLES_PER_FRAME, SPEECH_WIDTH)
        if rows.shape != wanted:
            raise self._graph.other(f"gives features {list(rows.shape)}, not {list(wanted)}")
        return rows
