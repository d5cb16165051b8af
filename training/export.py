"""Writes the trained parts in the published file layout.

    python -m training.export --parts training/.state --out talker

`OUT/base` is laid out like Wan-AI/Wan2.2-S2V-14B and `OUT/lora` like Quark-Vision/Live-Avatar, in float16;
`OUT/fast_decoder` has a decoder in the layout of madebyollin's taew2_1. The text encoder is small and random: it
tells words apart, and the transformer has learned what those that name a mood mean.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tools import tiny_checkpoint

from . import wav2vec
from .talker import CONFIG
from .texts import write_text_encoder

VAE_FILE = "Wan2.1_VAE.pth"


def read(path: Path) -> dict[str, Tensor]:
    """A trained part's weights, contiguous float16."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: train it first (see training/README.md).")
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).half().contiguous() for name in file.keys()}  # noqa: SIM118


def transformer_config() -> dict:
    """`config.json` of the transformer, with the published keys."""
    sizes = {
        "dim": CONFIG.dim,
        "ffn_dim": CONFIG.ffn_dim,
        "num_heads": CONFIG.num_heads,
        "num_layers": CONFIG.num_layers,
        "audio_inject_layers": list(CONFIG.audio_inject_layers),
    }
    return {**tiny_checkpoint.transformer_config(CONFIG.text_dim, CONFIG.audio_dim), **sizes}


def write_audio_encoder(folder: Path, state: dict[str, Tensor]) -> None:
    """wav2vec2 as a CTC model whose letter head is zero, with the published file's older weight-norm names."""
    tiny_checkpoint.write_audio_encoder(folder)
    state = {name: value for name, value in state.items() if name.startswith("wav2vec2.")}
    for index, old in enumerate(("weight_g", "weight_v")):
        new = f"parametrizations.weight.original{index}"
        state = {name.replace(new, old): value for name, value in state.items()}
    letters = len(wav2vec.VOCABULARY)
    state["lm_head.weight"] = torch.zeros(letters, wav2vec.HIDDEN, dtype=torch.float16)
    state["lm_head.bias"] = torch.zeros(letters, dtype=torch.float16)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(wav2vec.config().to_dict(), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def export(parts: Path, out: Path) -> None:
    """Write the base model, and LoRA and small decoder where they were distilled, below `out`."""
    base = out / "base"
    base.mkdir(parents=True, exist_ok=True)
    tiny_checkpoint.write_transformer(base, read(parts / "talker.safetensors"), transformer_config())
    torch.save(read(parts / "vae.safetensors"), base / VAE_FILE)
    write_text_encoder(base)
    audio = base / "wav2vec2-large-xlsr-53-english"
    write_audio_encoder(audio, read(parts / "wav2vec.safetensors"))
    for part, target in (("lora", "lora/liveavatar"), ("fast_decoder", "fast_decoder/taew2_1")):
        if (parts / f"{part}.safetensors").is_file():
            path = out / f"{target}.safetensors"
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(parts / f"{part}.safetensors", path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=Path, default=Path("training/.state"))
    parser.add_argument("--out", type=Path, default=Path("talker"))
    args = parser.parse_args()
    export(args.parts, args.out)
    files = [path for path in args.out.rglob("*") if path.is_file()]
    print(f"{sum(path.stat().st_size for path in files) / 1e6:.2f} MB in {len(files)} files")


if __name__ == "__main__":
    main()
