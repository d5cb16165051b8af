"""One short text for everything that decides a video, to know in a later process whether it is the same video."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ..liveavatar.config import SamplingConfig
from .conditioning import Condition
from .s2v import compute_dtype
from .speech import Speech
from .vae import HostVAE

FORMAT = 1
"""Raised when a change to the engine lets the same inputs give other frames."""
SAMPLES, LENGTH = 4, 4
"""Of every weight, so many short runs of values are looked at."""
PIECE = 1 << 22  # values


def fingerprint(*parts: Any) -> str:
    """A hash of numbers, texts, None, tensors (every value), and of dataclasses, mappings and sequences of them."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()


def run_fingerprint(
    model: Any,
    vae: HostVAE,
    condition: Condition,
    speech: Speech,
    config: SamplingConfig,
    frames: int,
    rounding: list[bool],
    decoder: Any = None,
) -> str:
    """Of everything that decides a LiveAvatar video: every value of prompt, portrait, pose, masks, sound and settings;
    of model, LoRA, VAE, fast decoder and audio encoder (by what it hears in the first block) a sample; the kind of
    device, and how it computes (``rounding``)."""
    return fingerprint(
        FORMAT,
        condition,
        config,
        frames,
        speech.audio,
        speech.masks,
        next(iter(speech.source.blocks())),
        model_identity(model),
        weights_identity(vae.vae.model.named_parameters()),
        device_identity(model.load_device, compute_dtype(model)),
        rounding,
        *([] if decoder is None else [decoder.identity()]),
    )


def device_identity(device: torch.device, dtype: torch.dtype) -> list[str]:
    """What decides whether a run computes the same bits: kind of device, number format, version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return [device.type, name, str(dtype), torch.__version__]


def model_identity(model: Any) -> list[Any]:
    """What tells one host MODEL from another: a few values of every weight, and of every LoRA and other patch on it.

    The weights that are patched count by their patch only: how they look depends on what is loaded where.
    """
    patches = {
        key: [(patch[0], list(_tensors(patch[1]))) for patch in model.patches[key]] for key in model.patches
    }
    weights = model.model.diffusion_model.named_parameters()
    own = ((name, weight) for name, weight in weights if f"diffusion_model.{name}" not in patches)
    return [weights_identity(own, compute_dtype(model)), _looked_at(patches)]


def weights_identity(named: Iterable[tuple[str, Tensor]], dtype: torch.dtype = torch.float32) -> list[Any]:
    """Name, shape and a few values of every weight, as they are in ``dtype``: a host may keep the file's format until a
    weight is loaded."""
    return [[name, _look_at(weight, dtype)] for name, weight in named]


def _look_at(weight: Tensor, dtype: torch.dtype = torch.float32) -> list[Any]:
    flat = weight.detach().reshape(-1)
    last = max(0, flat.numel() - LENGTH)
    runs = [flat[last * n // (SAMPLES - 1) :][:LENGTH].to(dtype).float() for n in range(SAMPLES)]
    return [[*weight.shape], torch.cat(runs).cpu()]


def _looked_at(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _look_at(value)
    if isinstance(value, Mapping):
        return {key: _looked_at(item) for key, item in value.items()}
    return [_looked_at(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tensors(patch: Any) -> Iterable[Any]:
    """Tensors and settings of a patch of the host: an adapter object, or tuples of such."""
    if isinstance(patch, (Tensor, str, int, float)):
        yield patch
    elif isinstance(patch, (list, tuple)):
        for item in patch:
            yield from _tensors(item)
    elif hasattr(patch, "weights"):
        yield type(patch).__name__
        yield from _tensors(patch.weights)


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{list(value.shape)}".encode())
        # In pieces: hours of sound are not copied at once.
        length = max(1, PIECE * value.shape[-1] // max(1, value.numel())) if value.ndim else 1
        for piece in value.detach().split(length, dim=-1) if value.ndim else [value.detach()]:
            digest.update(memoryview(piece.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    elif is_dataclass(value):
        _add(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Mapping):
        digest.update(f"{{{len(value)}".encode())
        for key in sorted(value):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, (bool, int, float, str)):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        raise TypeError(f"A {type(value).__name__} has no fingerprint.")
