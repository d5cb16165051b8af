"""LoRAs of LongCat: the published layout, in which a fused matrix has a part of its own for each of its pieces."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ...engines.longcat.adapter import Adapted
from ...engines.longcat.config import LongCatConfig
from ...engines.longcat.int8 import Int8Linear
from ..files import load_state_dict
from ..lora import Lora, check_strength, merge_lora, read_lora, resolve

MADE_FOR = {"dmd": "1.5", "cfg_step": "1.0", "distill": "1.0"}
"""Parts of the names of the published distillation LoRAs, and the versions that they were made for."""
REFINED = "final_layer.linear"
"""A module that only the refinement LoRA changes."""
_HYPHEN = "___lorahyphen___"
_PREFIX = f"lora{_HYPHEN}"
_KEY = re.compile(
    rf"{_PREFIX}(?P<module>.+?)\.(?P<part>lora_down\.weight|lora_up\.weight|lora_up\.blocks\.(?P<block>\d+)\.weight"
    r"|alpha_scale)$"
)


def read_longcat_lora(path: str | Path) -> Lora:
    """Read a LoRA file: ``dmd_lora``, ``cfg_step_lora`` or ``refinement_lora`` as published, or a usual one.

    A fused matrix's parts become one pair whose upper half is made of blocks, and the file's scale its alpha.
    FileNotFoundError or ValueError name the file.
    """
    path = Path(path)
    state = load_state_dict(path)
    if not any(key.startswith(_PREFIX) for key in state):
        return read_lora(path)
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = _KEY.match(key)
        if match is None:
            raise ValueError(f"Download {path.name} again: it holds {key!r:.80}, which is no part of a LoRA.")
        modules.setdefault(match["module"].replace(_HYPHEN, "."), {})[match["part"]] = tensor
    pairs, alphas = {}, {}
    for module, parts in modules.items():
        pairs[module] = _pair(path.name, module, parts)
        alphas[module] = _scale(path.name, module, parts) * len(pairs[module][0])
    return Lora(pairs, alphas)


def check_version(path: str | Path, lora: Lora, config: LongCatConfig) -> None:
    """ValueError for a LoRA that was made for the other version.

    The distillation LoRAs of both versions have the same modules and sizes, so their files' names count; that of the
    refinement shows in its modules.
    """
    name, version = Path(path).name.lower(), config.version.name
    made_for = next((made for mark, made in MADE_FOR.items() if mark in name), None)
    if REFINED in lora.pairs:
        made_for = "1.0"
    if made_for not in (None, version):
        raise ValueError(
            f"Choose another LoRA: {Path(path).name} was made for LongCat {made_for}, and this model is {version}."
        )


def is_distilled(path: str | Path) -> bool:
    """Whether a LoRA is, by its file's name, one for few steps without guidance."""
    return any(mark in Path(path).name.lower() for mark in MADE_FOR)


def apply_longcat_lora(model: nn.Module, lora: Lora, strength: float = 1.0) -> None:
    """Add a LoRA to ``model`` in place: into ordinary weights, and beside those of 8 bits.

    ValueError when it belongs to another model, and then nothing was changed.
    """
    check_strength(strength)
    lora = resolve(lora, model)
    packed = {
        module for module in lora.pairs if isinstance(model.get_submodule(module), (Int8Linear, Adapted))
    }
    dtype = model.dtype
    for module in packed:
        down, up = lora.pairs[module]
        scale = strength * lora.alphas[module] / len(down)
        layer = model.get_submodule(module)
        parent, _, name = module.rpartition(".")
        setattr(model.get_submodule(parent), name, Adapted(layer, down.to(dtype), (up * scale).to(dtype)))
    plain = {module: pair for module, pair in lora.pairs.items() if module not in packed}
    if plain:
        merge_lora(model, Lora(plain, {module: lora.alphas[module] for module in plain}), strength)


def _pair(file: str, module: str, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Both halves of a module's addition, [rank, in] and [out, rank], checked against each other."""
    down = parts.get("lora_down.weight")
    blocks = {key: tensor for key, tensor in parts.items() if key.startswith("lora_up.blocks.")}
    ups = [blocks.get(f"lora_up.blocks.{number}.weight") for number in range(len(blocks))]
    ups = ups or [parts.get("lora_up.weight")]
    if down is None or any(up is None for up in ups):
        raise ValueError(f"Download {file} again: {module} lacks a part of its pair.")
    if not all(torch.isfinite(tensor.float()).all() for tensor in (down, *ups)):
        raise ValueError(f"Download {file} again: its weights for {module} are NaN or infinite.")
    if any(tensor.ndim != 2 for tensor in (down, *ups)) or sum(up.shape[1] for up in ups) != len(down):
        raise ValueError(f"Download {file} again: the parts of {module} do not fit together.")
    return down.float(), torch.block_diag(*(up.float() for up in ups))


def _scale(file: str, module: str, parts: dict[str, Tensor]) -> float:
    scale = parts.get("alpha_scale")
    if scale is None or scale.numel() != 1 or not torch.isfinite(scale).all():
        raise ValueError(f"Download {file} again: {module} lacks its scale.")
    return float(scale)
