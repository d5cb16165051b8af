"""Weights and inputs that fixture sets name by a seed instead of storing them."""

from __future__ import annotations

import math
import re
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Rules for names that a file's own rules leave open: pattern, kind, scale, offset. The first match counts.
COMMON_RULES = [
    (r"num_batches_tracked$", "constant", 0, 100),
    (r"running_mean$", "plain", 0.1, 0.0),
    (r"running_var$", "abs", 0.2, 0.9),
    (r"position_ids$", "positions", 0, 0),
    (r"idx_tensor$", "count", 0, 0),
    (r"pos_encoder\.pe$", "interleaved", 0, 0),
    (r"^pe$", "halves", 0, 0),
    (r"rotary\.freqs$", "frequencies", 0, 0),
    (r"(gamma|beta)$", "plain", 0.3, 0.0),
    (r"null_cond_embed$|null_cond_hidden$", "plain", 1.0, 0.0),
    (r"bias$", "plain", 0.05, 0.0),
]
SPECTRAL_ROUNDS = 8


def normal(name: str, shape: tuple[int, ...] | list[int], seed: int) -> np.ndarray:
    """Standard normal numbers in float64 that a name and a seed stand for."""
    stream = np.random.RandomState((zlib.crc32(name.encode()) + 7919 * seed) & 0xFFFFFFFF)
    return np.asarray(stream.standard_normal(tuple(shape) or None))


def _sincos(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    return np.sin(angles), np.cos(angles)


def _array(salt: str, key: str, shape: list[int], rules: list, seed: int) -> np.ndarray:
    default = ("", "fan", 1.0, 0.0) if len(shape) >= 2 else ("", "plain", 0.1, 1.0)
    rule = next((r for r in (*rules, *COMMON_RULES) if re.search(r[0], key)), default)
    _, kind, scale, offset = rule
    if kind in ("constant", "int"):
        return np.full(shape, offset, dtype=np.int64)
    if kind == "count":
        return np.arange(shape[0], dtype=np.float32)
    if kind == "positions":
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    if kind == "interleaved":
        return np.stack(_sincos(shape[1], shape[2]), -1).reshape(shape)
    if kind == "halves":
        return np.concatenate(_sincos(shape[1], shape[2]), 1).reshape(shape)
    if kind == "frequencies":
        return 1 / 10000.0 ** (np.arange(0, 2 * shape[0], 2) / (2 * shape[0]))
    z = normal(salt + key, shape, seed)
    if kind == "fan":
        z = z / math.sqrt(max(1, math.prod(shape[1:])))
    if kind == "abs":
        z = np.abs(z)
    return offset + scale * z


def _spectral_vectors(weight: Tensor, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Left and right vectors of the largest singular value of a weight as a matrix ``[out, rest]``."""
    matrix = weight.flatten(1).double().numpy()
    left = normal(f"{name}:u", (len(matrix),), seed)
    left /= np.linalg.norm(left)
    for _ in range(SPECTRAL_ROUNDS):
        right = matrix.T @ left
        right /= np.linalg.norm(right)
        left = matrix @ right
        left /= np.linalg.norm(left)
    return left, right


def seeded_state(entry: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """The state dict that a checkpoint file of a set's weight description stands for."""
    fixed, salt = entry.get("values", {}), entry.get("salt", "")

    def tensor(key: str, array: np.ndarray) -> Tensor:
        made = torch.from_numpy(np.ascontiguousarray(array).reshape(entry["keys"][key]))
        return made.float() if made.is_floating_point() else made

    state: dict[str, Tensor] = {}
    for key, shape in entry["keys"].items():
        if key in fixed:
            state[key] = tensor(key, np.asarray(fixed[key]))
        elif not key.endswith((".weight_u", ".weight_v")):
            state[key] = tensor(key, _array(salt, key, shape, entry.get("rules", []), seed))
    for key in entry["keys"]:
        if key.endswith(".weight_u") and key not in state:
            stem = key.removesuffix("_u")
            left, right = _spectral_vectors(state[f"{stem}_orig"], salt + stem, seed)
            state[key], state[f"{stem}_v"] = tensor(key, left), tensor(f"{stem}_v", right)
    return state
