"""Weights from GGUF files, by the library ``gguf`` (optional), decoded as they are read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GGUF = ".gguf"
SHAPE = "comfy.gguf.orig_shape."
"""Field that tells the shape of a tensor whose rows were too short for a quantised format."""


def load_gguf(path: str | Path, dtype: torch.dtype, hollow: bool = False) -> dict[str, Tensor]:
    """All tensors of a GGUF file in ``dtype``, with the names that it has.

    Args:
        hollow: leave the values out; names and shapes take no memory.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: the file is damaged.
        ImportError: ``gguf`` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        import gguf
    except ImportError:
        raise ImportError(
            f"Run 'pip install gguf' in ComfyUI's Python to read {path.name}, or choose a .safetensors file."
        ) from None
    try:
        reader = gguf.GGUFReader(path)
        shapes = {tensor.name: _shape(reader.fields, tensor) for tensor in reader.tensors}
    except Exception as error:  # whatever the library meets in a damaged header
        raise ValueError(f"Download {path.name} again: it is damaged ({type(error).__name__}).") from error
    if hollow:
        return {name: torch.empty(shape, device="meta", dtype=dtype) for name, shape in shapes.items()}

    def decoded(tensor: Any) -> Tensor:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if not values.flags.writeable:  # the file itself, into which no LoRA may be added
            values = values.copy()
        return torch.from_numpy(values).reshape(shapes[tensor.name]).to(dtype)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            return dict(zip(shapes, threads.map(decoded, reader.tensors), strict=True))
        except NotImplementedError as error:
            raise ValueError(f"Choose another quantisation than that of {path.name}: {error}.") from error


def _shape(fields: Mapping[str, Any], tensor: Any) -> list[int]:
    """Sizes in PyTorch's order; ValueError when they are not those of the values."""
    field = fields.get(SHAPE + tensor.name)
    sizes = reversed(tensor.shape.tolist()) if field is None else (int(field.parts[i][0]) for i in field.data)
    shape = list(sizes)
    if math.prod(shape) != tensor.n_elements:
        raise ValueError(f"{tensor.name} has {tensor.n_elements} values in the shape {shape}")
    return shape
