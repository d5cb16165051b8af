"""A tiny LongCat-Video-Avatar checkpoint of the published layout, with drawn weights.

    python -m tools.tiny_longcat OUTPUT_DIR

Writes ``LongCat-Video/vae`` (diffusers' layout) and, beside it, ``LongCat-Video-Avatar`` (1.0) with
``avatar_single`` and ``chinese-wav2vec2-base``, and ``LongCat-Video-Avatar-1.5`` with ``base_model``,
``base_model_int8``, ``lora/dmd_lora.safetensors`` and ``whisper-large-v3``. The pictures that it makes show nothing;
sizes and names are what a loader meets.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from . import pack  # noqa: F401 - registers the package ``avatar``

# isort: split
from avatar.engines.longcat.config import LongCatConfig
from avatar.engines.longcat.int8 import quantise
from avatar.engines.longcat.transformer import LongCatTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

SMALL = {
    "hidden_size": 64,
    "depth": 2,
    "num_heads": 2,
    "caption_channels": 64,  # as wide as the tiny checkpoint's text encoder
    "adaln_tembed_dim": 32,
    "intermediate_dim": 32,
    "output_dim": 24,
    "context_tokens": 8,
}
TINY = {
    "1.0": LongCatConfig(**SMALL, audio_block=12, audio_channel=16, audio_prenorm=True),
    "1.5": LongCatConfig(**SMALL, audio_block=5, audio_channel=20),
}
RANK = 4
FUSED = {"attn.qkv": 3, "cross_attn.kv_linear": 2}
PLAIN = ("attn.proj", "cross_attn.q_linear", "ffn.w1", "ffn.w2", "ffn.w3")
VAE = {"base_dim": 4}
WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
}
WHISPER = {
    "d_model": 20,
    "encoder_layers": 32,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "num_mel_bins": 128,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}


def transformer(config: LongCatConfig, seed: int = 0) -> LongCatTransformer:
    """A network with drawn weights, float32, in which every layer counts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LongCatTransformer(config)
    return model.eval().requires_grad_(False)


def eight_bits(model: nn.Module, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A network's weights as ``base_model_int8`` stores them; ``state`` stands for its own, and is used up."""
    state = model.state_dict() if state is None else state
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name != "final_layer.linear":
            weight, scale = quantise(state.pop(f"{name}.weight"))
            state |= {f"{name}.weight_int8": weight, f"{name}.weight_scale": scale}
    return {
        key: tensor.bfloat16() if tensor.is_floating_point() and not key.endswith("scale") else tensor
        for key, tensor in state.items()
    }


def lora_weights(model: nn.Module, rank: int = RANK) -> dict[str, Tensor]:
    """A LoRA for the modules of ``dmd_lora``, in its layout."""
    state: dict[str, Tensor] = {}
    draw = torch.Generator().manual_seed(1)
    for block in range(model.config.depth):
        for module, parts in (FUSED | dict.fromkeys(PLAIN, 1)).items():
            path = f"blocks.{block}.{module}"
            layer = model.get_submodule(path)
            name = f"lora.{path}".replace(".", "___lorahyphen___")
            down = torch.randn(parts * rank, layer.in_features, generator=draw) / layer.in_features**0.5
            ups = torch.randn(parts, layer.out_features // parts, rank, generator=draw) * 0.1
            state[f"{name}.lora_down.weight"] = down
            if parts == 1:
                state[f"{name}.lora_up.weight"] = ups[0]
            else:
                state |= {f"{name}.lora_up.blocks.{number}.weight": up for number, up in enumerate(ups)}
            state[f"{name}.alpha_scale"] = torch.tensor(0.5)
    return {key: tensor.contiguous() for key, tensor in state.items()}


def write(folder: Path, stem: str, state: dict[str, Tensor], config: LongCatConfig, shards: int = 2) -> None:
    """Weights in so many files with their index, and ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    keys, places = sorted(state), {}
    for number in range(shards):
        file = f"{stem}-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: state[key].contiguous() for key in keys[number::shards]}
        save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    known = {
        "_class_name": "LongCatVideoAvatarTransformer3DModel",
        "patch_size": [1, 2, 2],
        "enable_bsa": False,
    }
    (folder / "config.json").write_text(json.dumps(known | asdict(config), indent=1))


def write_eight_bits(folder: Path, state: dict[str, Tensor], config: LongCatConfig) -> None:
    """Weights of `eight_bits` as ``base_model_int8``."""
    write(folder, "quantized_model", state, config)
    method = json.dumps({"quantization_method": "int8_per_channel_symmetric"})
    (folder / "quantization_config.json").write_text(method)


def write_speech_encoders(older: Path, newer: Path) -> None:
    """Version 1.0's wav2vec2 as a pickle, and 1.5's Whisper with its decoder, as published."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**WAV2VEC2))
    older.mkdir(parents=True, exist_ok=True)
    (older / "config.json").write_text(json.dumps({"model_type": "wav2vec2", **WAV2VEC2}))
    (older / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    torch.save(wav2vec2.state_dict(), older / "pytorch_model.bin")
    write_whisper(newer)


def write_whisper(folder: Path, **sizes: int) -> None:
    """A Whisper with its decoder; ``sizes`` are those that are not tiny."""
    from transformers import WhisperConfig, WhisperModel

    config = WHISPER | sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whisper = WhisperModel(WhisperConfig(**config))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **config}))
    state = {f"model.{key}": tensor.half() for key, tensor in whisper.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def make(folder: str | Path) -> Path:
    """Write the whole checkpoint into ``folder``, and return it."""
    from diffusers import AutoencoderKLWan

    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKLWan(**VAE).save_pretrained(folder / "LongCat-Video" / "vae")
    for version, place in (
        ("1.0", "LongCat-Video-Avatar/avatar_single"),
        ("1.5", "LongCat-Video-Avatar-1.5/base_model"),
    ):
        state = {key: tensor.bfloat16() for key, tensor in transformer(TINY[version]).state_dict().items()}
        write(folder / place, "diffusion_pytorch_model", state, TINY[version])
    newer, model = folder / "LongCat-Video-Avatar-1.5", transformer(TINY["1.5"])
    write_eight_bits(newer / "base_model_int8", eight_bits(model), TINY["1.5"])
    (newer / "lora").mkdir(exist_ok=True)
    save_file(lora_weights(model), newer / "lora" / "dmd_lora.safetensors")
    write_speech_encoders(
        folder / "LongCat-Video-Avatar" / "chinese-wav2vec2-base", newer / "whisper-large-v3"
    )
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="where the checkpoint is written")
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()
