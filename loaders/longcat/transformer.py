"""LongCat's transformer from its published folders, bfloat16 or 8 bits, or from one file; with LoRAs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ...engines.longcat.config import LongCatConfig
from ...engines.longcat.int8 import use_int8
from ...engines.longcat.transformer import LongCatTransformer
from ..files import STEM, check_keys, load_sharded, read_json
from ..sizes import check_layers, check_whole, empty
from .lora import apply_longcat_lora, read_longcat_lora
from .single_file import read_single_file

EIGHT_BITS = "int8_per_channel_symmetric"
EIGHT_BITS_FILE = "quantization_config.json"
EIGHT_BITS_STEM = "quantized_model"
SCALE = "weight_scale"


def read_config(folder: str | Path) -> LongCatConfig:
    """The architecture in a folder's ``config.json``; FileNotFoundError or ValueError name the file."""
    path = Path(folder) / "config.json"
    values = read_json(path)
    try:
        config = LongCatConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_whole(path, {name: value for name, value in asdict(config).items() if type(value) is not bool})
    return config


def load_transformer(
    source: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    loras: Sequence[tuple[str | Path, float]] = (),
) -> LongCatTransformer:
    """The transformer of a folder of LongCat-Video-Avatar (``avatar_single``, ``avatar_multi``, ``base_model`` or
    ``base_model_int8``), or of one file with all of its weights.

    Weights in 8-bit whole numbers stay so; then LoRAs are computed beside them.

    Args:
        dtype: of the hidden states and of the weights that are not in 8 bits.
        loras: files and strengths; they add up.

    Raises:
        FileNotFoundError: a file is absent.
        ValueError: a file is damaged or of another model, a LoRA does not fit, or ``dtype`` is float16.
    """
    source = Path(source)
    if dtype == torch.float16:
        raise ValueError("Choose bfloat16 or float32: values in this model are too large for float16.")
    adapters = [(read_longcat_lora(path), strength) for path, strength in loras]
    config, state, packed = _read(source, dtype)
    model = _hollow(source, config, dtype, packed)
    check_keys(state, model, f"the transformer in {source}")
    model.load_state_dict(_stored(state, dtype, device), assign=True)
    model.eval().requires_grad_(False)
    for lora, strength in adapters:
        apply_longcat_lora(model, lora, strength)
    return model


def describe(source: str | Path, dtype: torch.dtype = torch.bfloat16) -> LongCatTransformer:
    """The transformer of a folder or file without its values, on the meta device: sizes, names and formats.

    Raises:
        FileNotFoundError: a file is absent.
        ValueError: a file is damaged or of another model.
    """
    config, state, packed = _read(Path(source), dtype, hollow=True)
    model = _hollow(source, config, dtype, packed)
    check_keys(state, model, f"the transformer in {source}")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.eval().requires_grad_(False)


def _read(
    source: Path, dtype: torch.dtype, hollow: bool = False
) -> tuple[LongCatConfig, dict[str, Tensor], bool]:
    """Architecture, weights as they are mapped from their files, and whether they are in 8-bit whole numbers.

    A single file's weights may have to be changed, for which ``hollow`` saves the time and the memory.
    """
    if source.is_file():
        config, state = read_single_file(source, dtype, hollow)
        return config, state, False
    config, packed = read_config(source), _is_packed(source)
    state = load_sharded(source, EIGHT_BITS_STEM if packed else STEM)
    check_layers(source / "config.json", {"depth": config.depth}, state)
    # The published configs leave it open for version 1.0.
    return replace(config, audio_prenorm="blocks.0.pre_audio_crs_attn_norm.weight" in state), state, packed


def _hollow(
    source: str | Path, config: LongCatConfig, dtype: torch.dtype, packed: bool
) -> LongCatTransformer:
    """A network on the meta device."""
    with empty(source, "transformer"):
        model = LongCatTransformer(config, dtype)
        if packed:
            use_int8(model)
    return model


def _is_packed(folder: Path) -> bool:
    """Whether a folder's weights are in 8 bits; ValueError when they are packed in another way."""
    path = folder / EIGHT_BITS_FILE
    if not path.is_file():
        return False
    found = read_json(path)
    if EIGHT_BITS not in found.values():
        raise ValueError(f"Download base_model_int8 instead of {folder}: only {EIGHT_BITS} can be read.")
    return True


def _stored(state: Mapping[str, Tensor], dtype: torch.dtype, device: str | torch.device) -> dict[str, Tensor]:
    """The weights as they are kept: scales in float32, 8-bit numbers as they are, all else in ``dtype``."""
    kept = {}
    for name, tensor in state.items():
        own = torch.float32 if name.endswith(SCALE) else dtype
        kept[name] = tensor.to(device, own if tensor.is_floating_point() else None)
    return kept
