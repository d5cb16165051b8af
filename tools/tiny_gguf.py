"""Writes an S2V transformer as a GGUF file for city96's ComfyUI-GGUF, laid out as that pack's own tools do it.

Needs the package ``gguf``, which quantises to Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 and BF16. It only reads the K types: of
these, layers get drawn values.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

NOT_QUANTISED = ("patch_embedding.", "text_embedding.", "time_embedding.", "time_projection.", "head.")
K_SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where the half-precision scales of a block of 256 values lie."""
FLOATS = {"F32": "float32", "F16": "float16"}


def write_gguf(path: Path, state: dict[str, Tensor], matrices: str) -> dict[str, Tensor]:
    """Write ``state`` with the checkpoint's keys to ``path``; returns the float32 values that the file stands for.

    ``matrices`` is the type of what is quantised at all, in rows of whole blocks: 32 values, or 256 of a K type
    (narrower matrices are Q8_0 then). The kernels of ``frame_packer`` are written as matrices with their shape
    beside them, other 5-D kernels as they are: the pack reads both.
    """
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    held = {}
    for name, tensor in state.items():
        kind = _kind(name, tensor, matrices)
        type_ = gguf.GGMLQuantizationType[kind]
        if kind in K_SCALES:
            data = _drawn(name, tensor, kind, gguf.GGML_QUANT_SIZES[type_][1])
        else:
            data = gguf.quantize(tensor.float().contiguous().numpy(), type_)
        held[name] = torch.from_numpy(gguf.dequantize(data, type_)).reshape(tensor.shape)
        if tensor.ndim == 5 and name.startswith("frame_packer."):
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
            data = data.reshape(len(data), -1)
        writer.add_tensor(name, data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def write_large_gguf(path: Path, state: dict[str, Tensor]) -> None:
    """`write_gguf` in Q8_0 for weights that are not to be held a second time; quantised on a GPU where there is one."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, tensor in state.items():
        kind = _kind(name, tensor, "Q8_0")
        data = quantise_q8_0(tensor) if kind == "Q8_0" else tensor.to(getattr(torch, FLOATS[kind])).numpy()
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise_q8_0(tensor: Tensor) -> np.ndarray:
    """A matrix [rows, columns] in Q8_0, bit for bit as ``gguf.quantize`` has it: uint8 [rows, bytes]."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    blocks = tensor.to(device).float().reshape(-1, 32)
    scales = blocks.abs().amax(1, keepdim=True) / 127
    values = blocks * torch.where(scales == 0, 0, 1 / scales)
    rounded = values.sign() * (values.abs() + 0.5).floor()  # halves away from zero
    parts = [scales.half().view(torch.uint8), rounded.to(torch.int8).view(torch.uint8)]
    return torch.cat(parts, 1).reshape(tensor.shape[0], -1).cpu().numpy()


def _kind(name: str, tensor: Tensor, matrices: str) -> str:
    """The GGML type of one tensor."""
    if tensor.ndim in (1, 5) or name.endswith((".modulation", ".weights")):
        return "F32"
    if tensor.ndim != 2 or tensor.shape[1] % 32 or name.startswith(NOT_QUANTISED):
        return "F16"
    return "Q8_0" if matrices in K_SCALES and tensor.shape[1] % 256 else matrices


def _drawn(name: str, tensor: Tensor, kind: str, size: int) -> np.ndarray:
    """Blocks of a K type in ``size`` bytes each, for a matrix of the tensor's shape: uint8 [rows, bytes]."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    blocks = torch.randint(256, (tensor.numel() // 256, size), dtype=torch.uint8, generator=generator)
    for place in K_SCALES[kind]:
        scales = 1e-4 * (1 + torch.rand(len(blocks), 1, generator=generator))
        blocks[:, place : place + 2] = scales.half().view(torch.uint8)
    return blocks.reshape(tensor.shape[0], -1).numpy()
