"""Model files of the tests: the tiny checkpoint for our loaders and ComfyUI's, and files that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from avatar.engines.parts.wan.fast_decoder import TinyDecoder
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tools.tiny_checkpoint import make

# What a text-to-video Wan model lacks of an S2V one.
S2V_PARTS = (
    "casual_audio_encoder.",
    "audio_injector.",
    "cond_encoder.",
    "frame_packer.",
    "trainable_cond_mask.",
)


def install_tiny_models(models: Path) -> Path:
    """Fill a host's models folder; returns the folder of the tiny checkpoint.

    ``liveavatar`` gets tiny, tiny-lora and tiny-wide; ``diffusion_models``, ``vae`` and ``loras`` the same weights
    as tiny-wide's in single files; ``vae_approx`` a random fast decoder of the published size.
    """
    (models / "vae_approx").mkdir(parents=True, exist_ok=True)
    decoder = {name: value.half() for name, value in random_decoder().items()}
    save_file(decoder, models / "vae_approx" / "tiny_taew2_1.safetensors")
    root = make(models / "liveavatar", host_layout=True)
    for file in (root / "host").glob("*/*"):
        target = models / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    shutil.rmtree(root / "host")
    return root / "tiny"


def random_decoder() -> dict[str, torch.Tensor]:
    """A fast decoder of the published size whose pictures are neither flat nor dark."""
    torch.manual_seed(0)
    state = {name: 1.5 * value for name, value in TinyDecoder().state_dict().items()}
    state["decoder.22.bias"] += 0.5
    return state


def write_wav2vec2_large(path: Path) -> None:
    """A wav2vec2 of the size that ComfyUI knows (630 MB in fp16), its weights cut from one random buffer."""
    config = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Wav2Vec2Model(config).state_dict().items()}
    noise = torch.randn(max(shape.numel() for shape in shapes.values())).half()
    state = {}
    for name, shape in shapes.items():
        if "norm.weight" in name or name.endswith("original0"):
            state[name] = torch.ones(shape, dtype=torch.float16)
        else:
            scale = shape[1:].numel() ** -0.5 if len(shape) > 1 else 0.02
            state[name] = noise[: shape.numel()].reshape(shape) * scale
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def write_misfits(models: Path) -> None:
    """A text-to-video model, a LoRA of another model, and checkpoints of which a shard is cut off or missing."""
    state = load_file(models / "diffusion_models" / "tiny_s2v.safetensors")
    state = {key: tensor for key, tensor in state.items() if not key.startswith(S2V_PARTS)}
    save_file(state, models / "diffusion_models" / "tiny_t2v.safetensors")
    module = "diffusion_model.double_blocks.0.img_attn.proj"
    lora = {f"{module}.lora_A.weight": torch.randn(4, 16), f"{module}.lora_B.weight": torch.randn(16, 4)}
    save_file(lora, models / "loras" / "of_flux.safetensors")
    for name in ("cut-off", "incomplete"):
        folder = models / "liveavatar" / name
        shutil.copytree(models / "liveavatar" / "tiny", folder)
        shard = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
        if name == "cut-off":
            with shard.open("r+b") as file:
                file.truncate(100_000)
        else:
            shard.unlink()
