"""Published networks that exist as ONNX graphs, computed by onnxruntime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import check_file

INSTALL = (
    "Install onnxruntime, which computes Smart Turn and those of Ditto's networks that PyTorch cannot or is not to "
    "compute: 'pip install onnxruntime' into ComfyUI's Python, or 'pip install onnxruntime-gpu' to run Ditto's speech "
    "network on an NVIDIA GPU."
)

logger = logging.getLogger(__name__)


def require_onnxruntime() -> Any:
    """The module onnxruntime; RuntimeError, which says how to install it, where it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeError(INSTALL) from error
    return onnxruntime


class RuntimeGraph:
    """A graph with one input, on the CPU or an NVIDIA GPU; every call stands alone.

    Without onnxruntime's GPU build it runs on the CPU, and a line in the log says so.

    Args:
        path: the file.
        name: what people call this network, for messages.
        given: its input's name.
        device: where it is to run.
        threads: of the CPU that it takes; 0: as many as there are cores.

    Raises:
        RuntimeError: onnxruntime is missing.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
    """

    def __init__(
        self, path: str | Path, name: str, given: str, device: torch.device | str = "cpu", threads: int = 0
    ):
        check_file(path)
        runtime = require_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=_providers(runtime, torch.device(device), name)
            )
        except Exception as error:  # onnxruntime's own classes, which are not public
            raise ValueError(
                f"Download {path} again: onnxruntime cannot read it ({_first_line(error)})."
            ) from error
        self.path, self.name, self._given = path, name, given
        inputs = [entry.name for entry in self._session.get_inputs()]
        if inputs != [given]:
            raise self.other(f"takes {', '.join(inputs)} in place of {given}")

    @property
    def on_gpu(self) -> bool:
        return self._session.get_providers()[0].startswith("CUDA")

    @property
    def outputs(self) -> list[str]:
        return [entry.name for entry in self._session.get_outputs()]

    def other(self, fault: str) -> ValueError:
        """The error for a file that is another network."""
        return ValueError(f"Choose {self.name}: {self.path} {fault}.")

    def __call__(self, x: Tensor, *outputs: str) -> list[Tensor]:
        """The outputs of these names (none: all), on the CPU; ValueError where the graph does not take ``x``."""
        try:
            results = self._session.run(list(outputs) or None, {self._given: x.float().cpu().numpy()})
        except Exception as error:
            raise self.other(f"does not take {list(x.shape)} ({_first_line(error)})") from error
        return [torch.from_numpy(result) for result in results]


def _providers(runtime: Any, device: torch.device, name: str) -> list[Any]:
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        logger.warning(
            "LiveAvatar: %s runs on the CPU, because this onnxruntime has no support for NVIDIA GPUs; "
            "'pip install onnxruntime-gpu' brings it.",
            name,
        )
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
