"""Writes a random, untrained checkpoint in the real file layout, small enough for two CPU cores.

    python -m tools.tiny_checkpoint OUTPUT_DIR [--host-layout]

``OUTPUT_DIR/tiny`` is laid out like ``Wan-AI/Wan2.2-S2V-14B`` and ``OUTPUT_DIR/tiny-lora`` like
``Quark-Vision/Live-Avatar``: same file names, key names, dtypes and relations between shapes; only the
widths, the number of layers and the vocabulary are small. Every value depends on its key name alone, so two
runs write the same weights. The pictures are noise with structure: visible and varying, never meaningful.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from .checkpoint_shapes import (
    AUDIO_LAYERS,
    Shape,
    lora_shapes,
    text_encoder_shapes,
    transformer_shapes,
    vae_shapes,
)

TEXT_DIM, AUDIO_DIM = 64, 32
HOST_TEXT_DIM, HOST_AUDIO_DIM = 4096, 1024  # ComfyUI builds its S2V model with these whatever the file says
# ComfyUI builds all twelve; 0 and 4 are used here.
INJECT_LAYERS = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
LARGE = 1 << 22  # values; tensors from this size on are drawn on a GPU where there is one


@dataclass(frozen=True)
class Sizes:
    """What is small in the tiny checkpoint; the head width is always 128."""

    dim: int = 128
    ffn_dim: int = 256
    num_layers: int = 5
    vae_width: int = 8
    audio_width: int = AUDIO_DIM  # of the audio encoder's hidden states
    audio_heads: int = 2
    lora_rank: int = 4
    shards: int = 2  # files of the transformer


TINY = Sizes()
FULL = Sizes(5120, 13824, 40, 96, 1024, 16, 128, shards=1)
"""As published; the text encoder stays narrow inside."""

SENTENCES = (
    "A person looks into the camera and speaks calmly, with natural movements of the head and the hands.",
    "The woman smiles, nods and explains how the bread is baked, while the morning light falls on the table.",
    "An old man in a dark coat sings a slow song near the window of a quiet room.",
    "The speaker turns to the left, laughs, and then continues the story in a warm, clear voice.",
)


def draw(name: str, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """The tensor of one key: normal values of a size that keeps activations near unit variance."""
    device = "cuda" if math.prod(shape) >= LARGE and torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator, device=device)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "modulation":
        values *= 0.1
        if shape[1] == 6:
            values[:, (2, 5)] += 0.5  # gates, so that the blocks matter
    elif "lora_B" in name:
        values *= 0.1
    elif leaf == "gamma" or (leaf == "weight" and len(shape) == 1):
        values = 1 + 0.02 * values
    elif leaf == "bias":
        values *= 0.02
    elif "token_embedding" in name or leaf == "padding_tokens":
        pass
    elif "pos_embedding" in name or leaf in ("weights", "masked_spec_embed") or "trainable_cond" in name:
        values *= 0.3
    else:
        values /= math.sqrt(math.prod(shape[1:]))
        if name.startswith("time_projection"):
            values *= 0.5
        elif ".attn.q." in name:
            values /= math.sqrt(16)  # UMT5 does not scale its attention logits
    return values.to(dtype).cpu()


def weights(shapes: dict[str, Shape], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A drawn state dict for these shapes."""
    return {name: draw(name, shape, dtype) for name, shape in shapes.items()}


def transformer_config(text_dim: int, audio_dim: int, sizes: Sizes = TINY) -> dict:
    """``config.json`` of a transformer, with the published keys."""
    return {
        "_class_name": "WanModel_S2V",
        "_diffusers_version": "0.35.0",
        "model_type": "s2v",
        "cross_attn_type": "t2v_cross_attn",
        "dim": sizes.dim,
        "ffn_dim": sizes.ffn_dim,
        "num_heads": sizes.dim // 128,
        "num_layers": sizes.num_layers,
        "freq_dim": 256,
        "in_dim": 16,
        "out_dim": 16,
        "text_dim": text_dim,
        "text_len": 512,
        "patch_size": [1, 2, 2],
        "window_size": [-1, -1],
        "qk_norm": True,
        "cross_attn_norm": True,
        "eps": 1e-6,
        "cond_dim": 16,
        "audio_dim": audio_dim,
        "num_audio_token": 4,
        "enable_adain": True,
        "adain_mode": "attn_norm",
        "audio_inject_layers": list(INJECT_LAYERS),
        "zero_init": True,
        "zero_timestep": True,
        "enable_motioner": False,
        "add_last_motion": True,
        "enable_tsm": False,
        "trainable_token_pos_emb": False,
        "motion_token_num": 1024,
        "enable_framepack": True,
        "framepack_drop_mode": "padd",
    }


def write_transformer(folder: Path, state: dict[str, torch.Tensor], config: dict, shards: int = 2) -> None:
    """The transformer in so many safetensors files, their index and ``config.json``."""
    keys = sorted(state)
    length = -(-len(keys) // shards)
    weight_map = {}
    for n in range(shards):
        name = f"diffusion_pytorch_model-{n + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: state[key] for key in keys[n * length : (n + 1) * length]}
        save_file(part, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = {
        "metadata": {"total_size": sum(t.numel() * t.element_size() for t in state.values())},
        "weight_map": weight_map,
    }
    write_json(folder / "diffusion_pytorch_model.safetensors.index.json", index)
    write_json(folder / "config.json", config)


def write_tokenizer(folder: Path, sentences: Iterable[str] = SENTENCES) -> int:
    """A word-and-letter Unigram tokenizer in the files that AutoTokenizer reads; returns its size."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram

    words = sorted({word for sentence in sentences for word in sentence.split()})
    letters = sorted({letter for word in words for letter in word + word.lower()} | set("0123456789.,!?'-▁"))
    special = ["<pad>", "</s>", "<s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in special]
    pieces += [(f"▁{word}", -2.0 - 0.1 * len(word)) for word in words]
    pieces += [(letter, -8.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=special.index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", special.index("</s>"))]
    )
    tokenizer.add_special_tokens(special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", roles)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **roles},
    )
    return tokenizer.get_vocab_size()


def write_audio_encoder(folder: Path, sizes: Sizes = TINY) -> None:
    """A CTC wav2vec2 of 24 layers (so 25 hidden states) with the published convolution geometry."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", *"'-abcdefghijklmnopqrstuvwxyz"]
    config = Wav2Vec2Config(
        architectures=["Wav2Vec2ForCTC"],
        hidden_size=sizes.audio_width,
        num_hidden_layers=AUDIO_LAYERS - 1,
        num_attention_heads=sizes.audio_heads,
        intermediate_size=2 * sizes.audio_width,
        conv_dim=(16,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
        vocab_size=len(vocabulary),
        pad_token_id=0,
    )
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Wav2Vec2ForCTC(config).state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        # the published file keeps the older names of the weight norm of the position convolution
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if name.endswith("weight_g"):
            state[name] = torch.ones(shape)
        else:
            state[name] = draw(name, shape, torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(vocabulary)})
    write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": 16000,
            "padding_value": 0.0,
            "padding_side": "right",
            "do_normalize": True,
            "return_attention_mask": True,
        },
    )


def write_base(folder: Path, text_dim: int, audio_dim: int, sizes: Sizes = TINY) -> dict[str, torch.Tensor]:
    """A whole base model folder; returns the transformer's weights.

    With another ``audio_dim`` than the audio encoder's width, that encoder does not fit the transformer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = transformer_shapes(
        sizes.dim, sizes.ffn_dim, sizes.num_layers, len(INJECT_LAYERS), text_dim, audio_dim
    )
    state = weights(shapes, torch.bfloat16)
    write_transformer(folder, state, transformer_config(text_dim, audio_dim, sizes), sizes.shards)
    torch.save(weights(vae_shapes(sizes.vae_width), torch.float32), folder / "Wan2.1_VAE.pth")
    vocabulary = write_tokenizer(folder / "google" / "umt5-xxl")
    text = text_encoder_shapes(vocabulary, text_dim, dim_attn=64, ffn_dim=128, heads=4, layers=2)
    torch.save(weights(text, torch.bfloat16), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    write_audio_encoder(folder / "wav2vec2-large-xlsr-53-english", sizes)
    return state


def write_host_files(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Single files for ComfyUI's own loaders: the transformer, the VAE, and the LoRA with alpha keys."""
    for name in ("diffusion_models", "vae", "loras"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "diffusion_models/tiny_s2v.safetensors")
    save_file(weights(vae_shapes(TINY.vae_width), torch.float32), folder / "vae/tiny_wan_vae.safetensors")
    lora = {}
    for key, tensor in lora_weights(state).items():
        lora[f"diffusion_model.{key.replace('.default', '')}"] = tensor
        module = key.rsplit(".lora_", 1)[0]
        lora[f"diffusion_model.{module}.alpha"] = torch.tensor(TINY.lora_rank / 2)
    save_file(lora, folder / "loras/tiny_lora_converted.safetensors")


def lora_weights(state: dict[str, torch.Tensor], sizes: Sizes = TINY) -> dict[str, torch.Tensor]:
    """A LoRA for all modules of the transformer that the published one changes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return weights(lora_shapes(shapes, sizes.lora_rank), torch.bfloat16)


def write_json(path: Path, value: dict) -> None:
    """Readable JSON with a final line break."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def make(output_dir: str | Path, host_layout: bool = False) -> Path:
    """Write the tiny checkpoint below ``output_dir`` and return that folder.

    Writes ``tiny/`` (base model) and ``tiny-lora/liveavatar.safetensors``. With ``host_layout`` also
    ``tiny-wide/``, a base model of the text and audio widths that ComfyUI takes for granted, and ``host/`` with
    the same weights as single files for its ``diffusion_models``, ``vae`` and ``loras`` folders.
    """
    root = Path(output_dir)
    state = write_base(root / "tiny", TEXT_DIM, AUDIO_DIM)
    (root / "tiny-lora").mkdir(exist_ok=True)
    save_file(lora_weights(state), root / "tiny-lora" / "liveavatar.safetensors")
    if host_layout:
        write_host_files(root / "host", write_base(root / "tiny-wide", HOST_TEXT_DIM, HOST_AUDIO_DIM))
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a random, tiny checkpoint in the real file layout.")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument(
        "--host-layout", action="store_true", help="also write files for ComfyUI's own loaders"
    )
    arguments = parser.parse_args()
    make(arguments.output_dir, arguments.host_layout)
    for path in sorted(p for p in arguments.output_dir.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size / 1e6:8.3f} MB  {path.relative_to(arguments.output_dir)}")


if __name__ == "__main__":
    main()
