"""Ditto's speech network: the published graph, a HuBERT with the keys and values of 20 seconds of speech built in.

The public HuBERT gives other features, because the built-in context is in the graph only. So onnxruntime computes it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...engines.ditto.config import SAMPLES_PER_FRAME, SPEECH_WIDTH
from ...engines.ditto.speech_windows import EXTRA_SAMPLES, ROWS_PER_FRAME, SpeechWindow
from ..files import check_file

INPUT = "input_values"
INSTALL = (
    "Install onnxruntime for Ditto's speech network: 'pip install onnxruntime' into ComfyUI's Python, or "
    "'pip install onnxruntime-gpu' to run it on an NVIDIA GPU."
)

logger = logging.getLogger(__name__)


class SpeechGraph:
    """The speech network on the CPU or an NVIDIA GPU; call it as `speech_windows.Encode` says.

    Every call stands alone, nothing is carried over. Without onnxruntime's GPU build it runs on the CPU, and a line in
    the log says so.

    Args:
        path: ``hubert_streaming_fix_kv.onnx`` or ``hubert.onnx`` of the published files.
        device: where it is to run.

    Raises:
        RuntimeError: onnxruntime is missing.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        check_file(path)
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=_providers(runtime, torch.device(device))
            )
        except Exception as error:  # onnxruntime's own classes, which are not public
            raise ValueError(
                f"Download {path} again: onnxruntime cannot read it ({_first_line(error)})."
            ) from error
        inputs = [entry.name for entry in self._session.get_inputs()]
        if inputs != [INPUT]:
            raise ValueError(
                f"Choose Ditto's speech network: {path} takes {', '.join(inputs)} in place of {INPUT}."
            )
        self._path = path
        self(torch.zeros(1, SpeechWindow().samples))  # tells another network before anybody waits for it

    @property
    def on_gpu(self) -> bool:
        return self._session.get_providers()[0].startswith("CUDA")

    def __call__(self, sound: Tensor) -> Tensor:
        """Features ``[1, (samples - 80) // 320, 1024]`` of sound ``[1, samples]`` of 16 kHz, float32 on the CPU."""
        try:
            (rows,) = self._session.run(None, {INPUT: sound.float().cpu().numpy()})
        except Exception as error:
            raise ValueError(
                f"Choose Ditto's speech network: {self._path} does not take {sound.shape[1]} samples of sound "
                f"({_first_line(error)})."
            ) from error
        wanted = (1, (sound.shape[1] - EXTRA_SAMPLES) * ROWS_PER_FRAME // SAMPLES_PER_FRAME, SPEECH_WIDTH)
        if rows.shape != wanted:
            raise ValueError(
                f"Choose Ditto's speech network: {self._path} gives features {list(rows.shape)}, not {list(wanted)}."
            )
        return torch.from_numpy(rows)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeError(INSTALL) from error
    return onnxruntime


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        logger.warning(
            "Ditto's speech network runs on the CPU, because this onnxruntime has no support for NVIDIA GPUs; "
            "'pip install onnxruntime-gpu' brings it."
        )
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
