"""LoRA files: reading them, merging them into a model of this pack, applying LiveAvatar's to a ComfyUI model.

LiveAvatar's published file is in PEFT form without alpha keys, so its strength is known only from the training
settings (rank 128, alpha 64). A pair that finds no module is always an error here: a LoRA that is silently
ignored, or applied at the wrong strength, looks like a bad model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .files import load_state_dict

ALPHA_OVER_RANK = 0.5
"""Scale of a file that carries no alpha: LiveAvatar was trained with rank 128 and alpha 64."""

_PREFIXES = ("base_model.model.", "diffusion_model.")
_UNDERSCORED = "lora_unet_"
_PAIR_KEY = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<half>[AB])(?:\.default)?|lora_(?P<side>down|up))\.weight$"
)


@dataclass(frozen=True)
class Lora:
    """Low-rank additions ``scale * B @ A`` to the weights of linear modules.

    ``pairs`` maps a module path, without the file's prefix, to (A [rank, in], B [out, rank]), and ``alphas``
    maps the same names to alpha. ``lora_unet_blocks_0_…`` names stay as they are until a model is at hand.
    """

    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    alphas: dict[str, float]

    @property
    def rank(self) -> int:
        """The largest rank of any pair."""
        return max(a.shape[0] for a, _ in self.pairs.values())

    @property
    def alpha(self) -> float:
        """The alpha that belongs to a pair of the largest rank."""
        name = max(self.pairs, key=lambda module: self.pairs[module][0].shape[0])
        return self.alphas[name]


def read_lora(path: str | Path) -> Lora:
    """Read a LoRA file (.safetensors, or .pt/.pth/.bin without code in it).

    Understands ``lora_A``/``lora_B`` with or without ``.default`` and ``lora_down``/``lora_up``; module paths
    bare, behind ``base_model.model.`` and/or ``diffusion_model.``, or as ``lora_unet_*``. Alpha comes from
    ``.alpha`` keys, otherwise from ``ALPHA_OVER_RANK``. FileNotFoundError or ValueError name the file; values that
    are no numbers are an error too.
    """
    path = Path(path)
    state = load_state_dict(path)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    alphas: dict[str, float] = {}
    unknown = []
    for key, tensor in state.items():
        match = _PAIR_KEY.match(key)
        if match:
            half = match["half"] or {"down": "A", "up": "B"}[match["side"]]
            halves.setdefault(_module_name(match["module"]), {})[half] = tensor
        elif key.endswith(".alpha") and tensor.numel() == 1:
            alphas[_module_name(key.removesuffix(".alpha"))] = float(tensor)
        else:
            unknown.append(key)
    if not halves:
        raise ValueError(
            f"{path.name} is no LoRA (no lora_A/lora_B or lora_down/lora_up weights); choose a LoRA file."
        )
    if unknown:
        raise ValueError(
            f"{path.name} has weights that are no ordinary LoRA pairs ({_first(unknown)}); "
            "choose the LoRA in PEFT form, as published."
        )
    pairs = {module: _pair(path.name, module, found) for module, found in halves.items()}
    strangers = alphas.keys() - pairs.keys()
    if strangers:
        raise ValueError(
            f"{path.name} is incomplete: alpha without weights for {_first(strangers)}; download it again."
        )
    broken = [module for module, pair in pairs.items() if not all(map(_finite, pair))]
    broken += [module for module, alpha in alphas.items() if not math.isfinite(alpha)]
    if broken:
        raise ValueError(
            f"{path.name} is damaged: its weights for {_first(broken)} are NaN or infinite; download it again."
        )
    alphas = {module: alphas.get(module, ALPHA_OVER_RANK * a.shape[0]) for module, (a, _) in pairs.items()}
    return Lora(pairs, alphas)


def merge_lora(model: nn.Module, lora: Lora, strength: float = 1.0) -> None:
    """Add the LoRA to the weights of ``model`` in place, through peft; nothing of the adapter is left behind.

    The product is computed in float32 and the sum is rounded once to the weight's dtype.

    Raises:
        ValueError: a pair finds no linear module of its shape; nothing was changed.
    """
    from peft import LoraConfig, LoraModel

    check_strength(strength)
    lora = resolve(lora, model)
    rank, alpha = lora.rank, lora.alpha
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha * strength,
        # a pattern is matched against the whole path; a list of names would be matched against path endings
        target_modules="|".join(re.escape(module) for module in sorted(lora.pairs)),
        # exceptions only: peft tries every one of these patterns on every module
        rank_pattern={_exactly(m): a.shape[0] for m, (a, _) in lora.pairs.items() if a.shape[0] != rank},
        alpha_pattern={_exactly(m): a * strength for m, a in lora.alphas.items() if a != alpha},
    )
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with _without_config(model):
        tuner = LoraModel(model, config, "default", low_cpu_mem_usage=True)
        for module, (a, b) in lora.pairs.items():
            layer = model.get_submodule(module)
            device = layer.weight.device
            # set directly: peft's loader would cast the pair to the base's dtype and so round the product as well
            layer.lora_A["default"].weight = nn.Parameter(a.to(device, torch.float32), requires_grad=False)
            layer.lora_B["default"].weight = nn.Parameter(b.to(device, torch.float32), requires_grad=False)
        tuner.merge_and_unload()
    vars(model).pop("peft_config", None)  # older versions of peft leave it on the model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable[name])


@contextmanager
def _without_config(model: nn.Module) -> Iterator[None]:
    """Inside this a model has no ``config``: peft 0.17 reads it as a dictionary, and needs nothing of it."""
    own = vars(model).pop("config", None)
    try:
        yield
    finally:
        if own is not None:
            model.config = own


def host_state_dict(lora: Lora) -> dict[str, torch.Tensor]:
    """The LoRA with the keys that ComfyUI's own LoRA loading understands, alpha included."""
    state = {}
    for module, (a, b) in lora.pairs.items():
        name = module if module.startswith(_UNDERSCORED) else f"diffusion_model.{module}"
        state[f"{name}.lora_A.weight"] = a
        state[f"{name}.lora_B.weight"] = b
        state[f"{name}.alpha"] = torch.tensor(lora.alphas[module])
    return state


def apply_to_host(model_patcher: Any, lora: Lora, strength: float = 1.0) -> Any:
    """A clone of a ComfyUI MODEL with the LoRA on it, managed by the host like any other LoRA.

    Raises:
        ValueError: a pair finds no linear layer of its shape in the host's model.
    """
    from comfy.sd import load_lora_for_models

    check_strength(strength)
    lora = resolve(lora, model_patcher.model.diffusion_model)
    patched, _ = load_lora_for_models(model_patcher, None, host_state_dict(lora), strength, 0.0)

    def patches(patcher: Any, module: str) -> int:
        return len(patcher.patches.get(f"diffusion_model.{module}.weight", ()))

    missed = [module for module in lora.pairs if patches(patched, module) == patches(model_patcher, module)]
    if missed:
        raise ValueError(f"ComfyUI did not take the LoRA for {_first(missed)}; update ComfyUI.")
    return patched


def _module_name(name: str) -> str:
    """A module path without the prefixes that training and conversion tools put in front."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name.startswith(_UNDERSCORED):
        return _UNDERSCORED + name.removeprefix(_UNDERSCORED).lstrip("_")
    return name


def _pair(file: str, module: str, found: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of one module, checked against each other."""
    if found.keys() != {"A", "B"}:
        raise ValueError(f"{file} is incomplete: {module} has only one half of its pair; download it again.")
    a, b = found["A"], found["B"]
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(
            f"{file}: the pair of {module} holds {a.dtype}, no weights; choose an ordinary LoRA file."
        )
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[0] == 0:
        raise ValueError(
            f"{file}: the pair of {module} does not fit together ({tuple(a.shape)} and {tuple(b.shape)}; "
            "[rank, in] and [out, rank] are needed); the file is broken or not a linear LoRA."
        )
    return a, b


def _finite(tensor: torch.Tensor) -> bool:
    # Not every format of 8 bits can be asked itself. The largest value is NaN or infinite where any is.
    values = tensor.float() if tensor.dtype.itemsize == 1 else tensor
    return values.numel() == 0 or bool(values.abs().amax().isfinite())


def check_strength(strength: float) -> None:
    """ValueError unless it is a number."""
    if not math.isfinite(strength):
        raise ValueError(
            f"Set the LoRA's strength to a number (1 is what it was trained with): it is {strength}."
        )


def resolve(lora: Lora, model: nn.Module) -> Lora:
    """The LoRA with the model's own module paths; ValueError unless every pair fits a linear layer."""
    # Sizes come from the layer's attributes: a host's quantised weights are packed, and its layers may be no nn.Linear.
    linears = {
        path: (module.out_features, module.in_features)
        for path, module in model.named_modules()
        if hasattr(module, "in_features") and hasattr(module, "out_features")
    }
    underscored = {_UNDERSCORED + path.replace(".", "_"): path for path in linears}
    names = {module: underscored.get(module, module) for module in lora.pairs}
    missing = [module for module, path in names.items() if path not in linears]
    if missing:
        raise ValueError(
            f"The LoRA belongs to another model: {len(missing)} of its {len(names)} modules do not "
            f"exist here ({_first(missing)}); load the LoRA that was made for this model."
        )
    wrong = []
    for module, path in names.items():
        a, b = lora.pairs[module]
        if linears[path] != (b.shape[0], a.shape[1]):
            wrong.append(f"{module} is {b.shape[0]}x{a.shape[1]}, here {linears[path][0]}x{linears[path][1]}")
    if wrong:
        raise ValueError(
            f"The LoRA belongs to another model: {len(wrong)} of its {len(names)} modules have another size "
            f"({_first(wrong)}); load the LoRA that was made for this model."
        )
    return Lora(
        {path: lora.pairs[module] for module, path in names.items()},
        {path: lora.alphas[module] for module, path in names.items()},
    )


def _exactly(module: str) -> str:
    """A pattern for peft that matches this module path alone."""
    return "^" + re.escape(module)


def _first(names: Iterable[str], count: int = 3) -> str:
    """The first few of many names, for an error message."""
    names = sorted(names)
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
