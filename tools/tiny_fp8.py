"""Writes an S2V transformer in ComfyUI's own two float8 file formats, with a scale for every matrix."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

DTYPE = torch.float8_e4m3fn


def write_scaled_fp8(path: Path, state: dict[str, Tensor], rounds_biases: bool = True) -> dict[str, Tensor]:
    """The format of files called ``fp8_scaled``; returns the float32 values that ComfyUI makes of the file.

    ``rounds_biases``: as 0.3.75, which makes float8 of these layers' biases as well when it reads them; 0.29 does not.
    """
    marker = {"scaled_fp8": torch.empty(0, dtype=DTYPE)}
    held = _write(path, state, "scale_weight", marker, {})
    if not rounds_biases:
        return held
    biases = [f"{name.removesuffix('weight')}bias" for name in state if _is_linear(name, state)]
    return held | {name: held[name].to(DTYPE).float() for name in biases}


def write_fp8_with_metadata(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The later format, whose metadata name the layers; returns the float32 values that the file stands for."""
    layers = {
        name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in state if _is_linear(name, state)
    }
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    return _write(path, state, "weight_scale", {}, metadata)


def write_large_scaled_fp8(path: Path, state: dict[str, Tensor]) -> None:
    """`write_scaled_fp8` for weights that are not to be held a second time."""
    stored = {"scaled_fp8": torch.empty(0, dtype=DTYPE)}
    for name, tensor in state.items():
        if _is_linear(name, state):
            stored[name], stored[f"{name.removesuffix('weight')}scale_weight"] = _quantised(tensor)
        else:
            stored[name] = tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, path)


def _quantised(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """float8 values and the scale that makes them the tensor's again."""
    exact = tensor.float()
    scale = exact.abs().max() / torch.finfo(DTYPE).max
    return (exact / scale).to(DTYPE), scale


def _is_linear(name: str, state: dict[str, Tensor]) -> bool:
    return state[name].ndim == 2 and not name.startswith("trainable_cond_mask.")


def _write(
    path: Path, state: dict[str, Tensor], suffix: str, further: dict[str, Tensor], metadata: dict[str, str]
) -> dict[str, Tensor]:
    stored, held = dict(further), {}
    for name, tensor in state.items():
        stored[name], held[name] = tensor, tensor.float()
        if _is_linear(name, state):
            stored[name], scale = _quantised(tensor)
            stored[f"{name.removesuffix('weight')}{suffix}"] = scale
            held[name] = stored[name].float() * scale
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, path, metadata=metadata)
    return held
