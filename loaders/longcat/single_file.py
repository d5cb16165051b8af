"""LongCat transformers in one file, as ComfyUI users have them: the published names, or those of Wan with the fused
matrices split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...engines.longcat.config import LongCatConfig
from ..files import load_state_dict
from ..gguf_file import GGUF, load_gguf

FIRST = "audio_proj.proj1.weight"
"""Its width tells the versions apart."""
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
SCALE, MARK = ".scale_weight", "scaled_fp8"
"""How a file in float8 names the scale of a weight, and itself."""
WINDOW = 5

_RENAMED = {
    r"patch_embedding": "x_embedder.proj",
    r"time_embedding\.(?:mlp\.)?(\d)": r"t_embedder.mlp.\1",
    r"text_embedding\.(\d)": r"y_embedder.y_proj.\1",
    r"multitalk_audio_proj\.(\w+)": r"audio_proj.\1",
    r"head\.modulation\.1": "final_layer.adaLN_modulation.1",
    r"head\.head": "final_layer.linear",
    r"(blocks\.\d+)\.modulation\.1": r"\1.adaLN_modulation.1",
    r"(blocks\.\d+)\.audio_modulation\.1": r"\1.audio_adaLN_modulation.1",
    r"(blocks\.\d+)\.norm3": r"\1.pre_crs_attn_norm",
    r"(blocks\.\d+)\.norm_x": r"\1.pre_video_crs_attn_norm",
    r"(blocks\.\d+)\.norm_audio": r"\1.pre_audio_crs_attn_norm",
    r"(blocks\.\d+)\.self_attn\.norm_([qk])": r"\1.attn.\2_norm",
    r"(blocks\.\d+)\.self_attn\.o": r"\1.attn.proj",
    r"(blocks\.\d+)\.cross_attn\.norm_([qk])": r"\1.cross_attn.\2_norm",
    r"(blocks\.\d+)\.cross_attn\.q": r"\1.cross_attn.q_linear",
    r"(blocks\.\d+)\.cross_attn\.o": r"\1.cross_attn.proj",
}
_FUSED = {
    r"(blocks\.\d+)\.self_attn\.([qkv])": (r"\1.attn.qkv", "qkv"),
    r"(blocks\.\d+)\.cross_attn\.([kv])": (r"\1.cross_attn.kv_linear", "kv"),
}


def read_single_file(
    path: str | Path, dtype: torch.dtype, hollow: bool = False
) -> tuple[LongCatConfig, dict[str, Tensor]]:
    """The architecture and the weights of a file, under the published names.

    Weights in float8 become ``dtype``, times their scale, as do GGUF's. FileNotFoundError or ValueError name the file.

    Args:
        hollow: leave the values out; names, shapes and formats take no memory.
    """
    path = Path(path)
    state = load_gguf(path, dtype, hollow) if path.suffix == GGUF else load_state_dict(path)
    if hollow:
        state = {key: tensor.to("meta") for key, tensor in state.items()}
    state = published_names(unscaled(state, dtype))
    try:
        return architecture(state), state
    except (KeyError, IndexError, ZeroDivisionError):
        raise ValueError(f"Choose a LongCat-Video-Avatar file: {path.name} holds another model.") from None


def unscaled(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights without a host's prefix, and those in float8 as numbers of ``dtype`` with their scales in them."""
    bare = {}
    for key, tensor in state.items():
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), "")
        bare[key[len(prefix) :]] = tensor
    weights = {}
    for key, tensor in bare.items():
        if key == MARK or key.endswith(SCALE):
            continue
        if tensor.is_floating_point() and tensor.dtype.itemsize == 1:
            scale = bare.get(f"{key.removesuffix('.weight')}{SCALE}")
            tensor = (tensor.float() * (1.0 if scale is None else scale.float())).to(dtype)
        weights[key] = tensor
    return weights


def published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the published names; a state that has them passes unchanged."""
    if FIRST in state:
        return state
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        for pattern, (whole, order) in _FUSED.items():
            if match := re.fullmatch(pattern, module):
                found = parts.setdefault(f"{match.expand(whole)}.{leaf}", dict.fromkeys(order))
                found[match[2]] = tensor
                break
        else:
            name = next(
                (m.expand(to) for p, to in _RENAMED.items() if (m := re.fullmatch(p, module))), module
            )
            renamed[f"{name}.{leaf}"] = tensor
    for name, found in parts.items():
        # What is incomplete is missed when the model is filled.
        if all(part is not None for part in found.values()):
            renamed[name] = torch.cat(list(found.values()))
    return renamed


def architecture(state: Mapping[str, Tensor]) -> LongCatConfig:
    """The architecture by the shapes of the weights; KeyError when one that tells it is missing."""
    first, qkv = state[FIRST], state["blocks.0.attn.qkv.weight"]
    dim, width = qkv.shape[1], state["audio_proj.norm.weight"].shape[0]
    heard = first.shape[1] // WINDOW
    groups = next((groups for groups in (5, 12) if heard % groups == 0), 1)
    return LongCatConfig.from_dict(
        {
            "in_channels": state["x_embedder.proj.weight"].shape[1],
            "out_channels": state["final_layer.linear.weight"].shape[0] // 4,
            "hidden_size": dim,
            "depth": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
            "num_heads": dim // state["blocks.0.attn.q_norm.weight"].shape[0],
            "caption_channels": state["y_embedder.y_proj.0.weight"].shape[1],
            "adaln_tembed_dim": state["t_embedder.mlp.2.weight"].shape[0],
            "frequency_embedding_size": state["t_embedder.mlp.0.weight"].shape[1],
            "audio_block": groups,
            "audio_channel": heard // groups,
            "intermediate_dim": first.shape[0],
            "output_dim": width,
            "context_tokens": state["audio_proj.proj3.weight"].shape[0] // width,
            "audio_prenorm": "blocks.0.pre_audio_crs_attn_norm.weight" in state,
        }
    )
