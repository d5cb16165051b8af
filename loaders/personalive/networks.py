"""PersonaLive's networks from its files, as one engine.

To import this brings diffusers and transformers in: import it where an engine is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...engines.personalive.codec import Codec, KLCodec, TinyCodec, channels_last
from ...engines.personalive.config import MotionEncoderConfig, PoseGuiderConfig, UNetConfig
from ...engines.personalive.denoising_unet import DenoisingUNet
from ...engines.personalive.image_encoder import ClipImageEncoder, ImageEncoder
from ...engines.personalive.modules import PositionTable
from ...engines.personalive.motion_encoder import MotionEncoder
from ...engines.personalive.pipeline import PersonaLive
from ...engines.personalive.pose_guider import PoseGuider
from ...engines.personalive.reference_unet import ReferenceUNet
from ..files import check_keys, load_sharded, load_state_dict, read_json
from ..motion_extractor import load_motion_extractor
from ..sizes import check_layers, check_whole, empty, fill, only_known, shape_of
from .files import IMAGE_VARIATIONS, STEM, PersonaLiveFiles, has_base_unet, has_weights

MOST_POSITIONS = 4096
# Names of the VAE's attention layers in files of early diffusers versions.
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def load_personalive(
    files: PersonaLiveFiles,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    codec: Codec | None = None,
    image_encoder: ImageEncoder | None = None,
) -> PersonaLive:
    """The engine of a set of files, with all networks on ``device``.

    Where the files have a tiny VAE (TAESD), frames are decoded with it, which is faster and a little softer. The
    keypoint network stays in float32.

    Args:
        codec, image_encoder: take the place of the files' VAE and CLIP (see ``host_objects.py``).

    Raises:
        ValueError: a file does not fit; the message names it.
    """
    config = _unet_config(files.unet / "config.json")
    guider = _pose_guider(files.weights["pose_guider"])
    if guider.conv_out_modify.out_channels != config.block_out_channels[0]:
        raise ValueError(
            f"{files.weights['pose_guider']} makes {guider.conv_out_modify.out_channels} feature channels, "
            f"but the UNet of {files.unet / 'config.json'} starts with {config.block_out_channels[0]}; use "
            "files of one model"
        )

    def ready(module: nn.Module) -> nn.Module:
        # nn.Module's own method: diffusers' override warns about something that does not concern these models
        nn.Module.to(module, device=device, dtype=dtype)
        return channels_last(module).eval().requires_grad_(False)

    if image_encoder is None:
        clip = _image_encoder(files.image_encoder)
        if clip.config.projection_dim != config.cross_attention_dim:
            raise ValueError(
                f"{files.image_encoder} makes tokens of width {clip.config.projection_dim}, but the UNet of "
                f"{files.unet} takes {config.cross_attention_dim}; use the one of {IMAGE_VARIATIONS}"
            )
        image_encoder = ClipImageEncoder(ready(clip))
    if codec is None:
        codec = KLCodec(ready(_vae(files.vae)))
    if files.tiny_vae is not None:
        codec = TinyCodec(codec, ready(_tiny_vae(files.tiny_vae)))
    return PersonaLive(
        ready(_denoising_unet(files, config)),
        ready(_reference_unet(files.weights["reference_unet"], config)),
        ready(_motion_encoder(files.weights["motion_encoder"])),
        load_motion_extractor(files.weights["motion_extractor"]).to(device).requires_grad_(False),
        ready(guider),
        image_encoder,
        codec,
    )


def _denoising_unet(files: PersonaLiveFiles, config: UNetConfig) -> DenoisingUNet:
    """The weights of the base UNet where needed, the denoising file and the temporal file; later ones win."""
    state: dict[str, Tensor] = {}
    if not has_base_unet(files.weights):
        state.update(load_sharded(files.unet, STEM))
    for stem in ("denoising_unet", "temporal_module"):
        state.update(load_state_dict(files.weights[stem]))
    path = files.unet / "config.json"
    _check_unet_layers(path, config, state)
    with empty(path, "UNet"):
        model = DenoisingUNet(config)
    for name, module in model.named_modules():
        if isinstance(module, PositionTable) and f"{name}.pe" not in state:
            state[f"{name}.pe"] = PositionTable(module.pe.shape[-1], module.pe.shape[1]).pe
    where = f"{files.weights['denoising_unet']} and {files.weights['temporal_module'].name} together"
    _fill(model, only_known(state, model, where), where)
    return model


def _reference_unet(path: Path, config: UNetConfig) -> ReferenceUNet:
    state = load_state_dict(path)
    _check_unet_layers(path, config, state)
    with empty(path, "UNet"):
        model = ReferenceUNet(config)
    _fill(model.unet, state, str(path))
    return model


def _motion_encoder(path: Path) -> MotionEncoder:
    state = load_state_dict(path)
    width = shape_of(state, "model.att_1.pos_embed.proj.weight", path)[0]
    heads = MotionEncoderConfig.heads
    return fill(lambda: MotionEncoder(MotionEncoderConfig(heads, width // heads)), state, str(path), path)


def _pose_guider(path: Path) -> PoseGuider:
    state = load_state_dict(path)
    first = shape_of(state, "conv_in.weight", path)[0]
    strided = (f"blocks.{i}.weight" for i in range(1, 2 * len(PoseGuiderConfig.channels) - 2, 2))
    channels = (first, *(shape_of(state, key, path)[0] for key in strided))
    config = PoseGuiderConfig(channels, shape_of(state, "conv_out_modify.weight", path)[0])
    return fill(lambda: PoseGuider(config), state, str(path), path)


def _fill(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    check_keys(state, model, where)
    model.load_state_dict(state, assign=True)


def _image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    path = folder / "config.json"
    values = read_json(path)
    with empty(path, "image encoder"):
        config = CLIPVisionConfig.from_dict(values)
    state = (
        load_sharded(folder, "model")
        if has_weights(folder, "model")
        else load_sharded(folder, "pytorch_model")
    )
    # written by old versions of transformers, computed by new ones
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    check_layers(path, {"num_hidden_layers": config.num_hidden_layers}, state)
    return fill(lambda: CLIPVisionModelWithProjection(config), state, f"the image encoder in {folder}", path)


def _vae(folder: Path) -> AutoencoderKL:
    path = folder / "config.json"
    values = read_json(path)
    state = {}
    for key, value in load_sharded(folder, STEM).items():
        if ".attentions." in key:
            for old, new in OLD_ATTENTION.items():
                key = key.replace(old, new)
        state[key] = value
    check_layers(path, _counts(values, "layers_per_block", "block_out_channels"), state)
    return fill(lambda: AutoencoderKL.from_config(values), state, f"the VAE in {folder}", path)


def _tiny_vae(folder: Path) -> AutoencoderTiny:
    path = folder / "config.json"
    values, state = read_json(path), load_sharded(folder, STEM)
    blocks = "num_encoder_blocks", "num_decoder_blocks"
    check_whole(path, {name: values[name] for name in blocks if name in values}, lists=blocks)
    check_layers(
        path, {name: sum(values[name]) for name in blocks if isinstance(values.get(name), list)}, state
    )
    return fill(lambda: AutoencoderTiny.from_config(values), state, f"the tiny VAE in {folder}", path)


def _unet_config(path: Path) -> UNetConfig:
    config = UNetConfig.from_dict(read_json(path))
    sizes = {
        k: v for k, v in asdict(config).items() if k not in ("down_block_types", "up_block_types", "norm_eps")
    }
    check_whole(path, sizes, lists=["block_out_channels"])
    if not isinstance(config.block_out_channels, tuple):
        raise ValueError(f"Download {path} again: its block_out_channels are no list.")
    if config.position_length > MOST_POSITIONS:
        raise ValueError(f"Download {path} again: its position_length is above {MOST_POSITIONS}.")
    return config


def _check_unet_layers(path: Path, config: UNetConfig, state: Mapping[str, Tensor]) -> None:
    check_layers(path, _counts(asdict(config), "layers_per_block", "block_out_channels"), state)


def _counts(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The number of layers that entries of a config describe, each as a number or by the length of a list."""
    found = {name: values[name] for name in names if name in values}
    return {name: len(value) if isinstance(value, (list, tuple)) else value for name, value in found.items()}
