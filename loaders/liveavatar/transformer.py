"""The S2V transformer from a checkpoint folder: for the engine, and as ComfyUI's own MODEL."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...engines.liveavatar.config import FLOAT32_PARTS, S2VConfig
from ...engines.liveavatar.transformer import S2VTransformer
from ..files import check_keys, load_sharded, read_json
from ..lora import apply_to_host, merge_lora, read_lora
from ..sizes import check_layers, check_whole, empty
from .host_model import CHOSEN

MOST_TOKENS = 4096
"""Upper limit of a prompt's tokens, padding included."""


def read_config(folder: str | Path) -> S2VConfig:
    """Architecture from the folder's ``config.json``; FileNotFoundError or ValueError say what is wrong."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; download the checkpoint folder again.")
    values = read_json(path)
    inject = values.get("audio_inject_layers", [])
    if not isinstance(inject, list) or any(type(layer) is not int for layer in inject):
        raise ValueError(
            f"{path} is damaged (audio_inject_layers are not numbers of layers); download it again."
        )
    config = S2VConfig.from_dict(values)
    _check_sizes(config, path)
    return config


def _check_sizes(config: S2VConfig, path: Path) -> None:
    """ValueError, naming the file, for sizes that no model has, whatever its weights are."""
    whole = {
        name: value for name, value in asdict(config).items() if name not in ("eps", "audio_inject_layers")
    }
    check_whole(path, whole)
    faults = []
    if config.dim % (2 * config.num_heads):
        faults.append(f"dim {config.dim} is no multiple of twice num_heads {config.num_heads}")
    if config.text_len > MOST_TOKENS:
        faults.append(f"text_len {config.text_len:,} is above {MOST_TOKENS:,}")
    layers = config.audio_inject_layers
    if len(set(layers)) < len(layers) or any(layer < 0 for layer in layers):
        faults.append("audio_inject_layers are below 0, or there twice")
    if not isinstance(config.eps, float) or not 0 < config.eps < 1:
        faults.append(f"eps is {config.eps!r:.60}")
    if faults:
        raise ValueError(f"Download {path} again: {', '.join(faults)}.")


def load_transformer(
    folder: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    lora: str | Path | None = None,
    strength: float = 1.0,
) -> S2VTransformer:
    """The engine's transformer from a folder in the layout of Wan-AI/Wan2.2-S2V-14B, without a host.

    ``lora`` is a LoRA file that is merged in, at the scale it was trained with times ``strength``.
    """
    model = _read_transformer(Path(folder), lora, strength)
    for name, parameter in model.named_parameters():
        keep = torch.float32 if name.startswith(FLOAT32_PARTS) else dtype
        parameter.data = parameter.data.to(device=device, dtype=keep)
    return model


def _read_transformer(folder: Path, lora: str | Path | None, strength: float) -> S2VTransformer:
    """The folder's transformer in the file's dtype on the CPU, its weights mapped from the file if unchanged."""
    config = read_config(folder)
    pairs = read_lora(lora) if lora is not None else None
    state = load_sharded(folder)
    path = folder / "config.json"
    check_layers(
        path,
        {"num_layers": config.num_layers, "audio_inject_layers": max(1, len(config.audio_inject_layers))},
        state,
    )
    with empty(path, "transformer"):
        model = S2VTransformer(config)
    check_keys(state, model, f"the transformer in {folder}")
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    if pairs is not None:
        merge_lora(model, pairs, strength)
    return model


def load_host_model(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    lora: str | Path | None = None,
    strength: float = 1.0,
) -> Any:
    """ComfyUI's own MODEL from a folder in the layout of Wan-AI/Wan2.2-S2V-14B.

    The result is what the host's "Load Diffusion Model" would give for the same weights in one file, so it goes
    through every node that takes a MODEL. ``dtype`` is the stored weights' number format; None lets the host choose.
    The LoRA is on the MODEL like any other, so the weights stay as they are mapped from the file, and the host adds it
    where it computes; only with weights in 8 bits it is merged first, since the rounding has to come last.
    """
    from comfy import model_detection, model_management, model_patcher, supported_models

    merged = dtype is not None and dtype.itemsize == 1
    pairs = None if lora is None or merged else read_lora(lora)
    model = _read_transformer(Path(folder), lora if merged else None, strength)
    config, state = model.config, model.state_dict()
    found = model_detection.model_config_from_unet(state, "")
    if not isinstance(found, getattr(supported_models, "WAN22_S2V", ())):
        raise RuntimeError("This ComfyUI does not know Wan2.2-S2V models; update it to 0.3.75 or later.")
    # The host reads other sizes from the weights' shapes, but takes these for granted.
    found.unet_config.update(
        text_dim=config.text_dim,
        text_len=config.text_len,
        freq_dim=config.freq_dim,
        audio_dim=config.audio_dim,
        num_audio_token=config.num_audio_token,
        audio_inject_layers=list(config.audio_inject_layers),
    )
    device = model_management.get_torch_device()
    # The host takes the first format of its list that the device has, which would be float16: the model was not
    # trained in it, and ranges differ. The checkpoint's own comes first here; command line flags still count.
    supported = sorted(found.supported_inference_dtypes, key=lambda supported: supported != model.dtype)
    stored = dtype or model_management.unet_dtype(
        model_params=sum(tensor.numel() for tensor in state.values()),
        supported_dtypes=supported,
        weight_dtype=model.dtype,
    )
    found.set_inference_dtype(stored, model_management.unet_manual_cast(stored, device, supported))
    offload_device = model_management.unet_offload_device()
    host = found.get_model(state, "", device=offload_device)
    # Assigned, not copied as the host does it, so that a 14B model takes the memory of its weights once.
    wanted = {name: parameter.dtype for name, parameter in host.diffusion_model.named_parameters()}
    state = {name: tensor.to(wanted.get(name, stored)) for name, tensor in state.items()}
    host.diffusion_model.load_state_dict(state, assign=True)
    # Newer hosts have their own choice of patcher here: the one that loads weights as they are needed.
    patcher = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)
    loaded = patcher(host, load_device=device, offload_device=offload_device)
    if dtype == torch.float16 and found.manual_cast_dtype is None:
        loaded.add_object_patch(CHOSEN, dtype)  # else nobody could tell that somebody wants it
    return loaded if pairs is None else apply_to_host(loaded, pairs, strength)
