"""Random weights for the prompts of `benchmarks.host`, in the layouts that are published; what is there is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools import tiny_checkpoint
from tools.environment import ROOT
from tools.tiny_checkpoint import FULL, HOST_AUDIO_DIM, HOST_TEXT_DIM, TEXT_DIM, TINY

CHECKPOINT, LORA, TEXT = "benchmark", "benchmark-lora/liveavatar.safetensors", "benchmark-text"
"""LiveAvatar's folder and LoRA, and a folder of which prompts of other models take the text encoder."""
LONGCAT = {"longcat": "benchmark-1.5/base_model", "longcat8": "benchmark-1.5/base_model_int8"}
HOST_LOADERS = ("bf16", "fp8", "gguf")
"""Kinds of prompts whose model ComfyUI's loaders, or ComfyUI-GGUF's, read."""
OTHERS = ("sdxl", "ditto", *LONGCAT, "personalive")
WHISPER_LARGE = {"d_model": 1280, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}


@dataclass(frozen=True)
class Weights:
    """The folder ``models`` of a ComfyUI in ``host``, with weights of full size or tiny ones."""

    models: Path
    host: Path
    tiny: bool

    def write(self, kinds: Iterable[str]) -> None:
        """What prompts of these kinds need."""
        wanted = set(kinds)
        if wanted - set(OTHERS):
            self._liveavatar()
        if "bf16" in wanted:
            once(self._single("bf16.safetensors"), lambda path: path.hardlink_to(self._transformer))
        if "fp8" in wanted:
            from tools.tiny_fp8 import write_large_scaled_fp8 as write_fp8

            once(self._single("fp8_scaled.safetensors"), lambda path: write_fp8(path, self._state()))
        if "gguf" in wanted:
            from tools.tiny_gguf import write_large_gguf as write_gguf

            once(self._single("Q8_0.gguf"), lambda path: write_gguf(path, self._state()))
        if "sdxl" in wanted:
            once(self.models / "checkpoints" / "benchmark_sdxl.safetensors", self._sdxl)
        if "ditto" in wanted:
            once(self.models / "ditto" / "benchmark", self._ditto)
        for kind in wanted & LONGCAT.keys():
            self._longcat(kind)
        if "personalive" in wanted:
            from tools.tiny_personalive import write_tiny_personalive as write_personalive

            once(self.models / "personalive" / "benchmark", write_personalive)

    @property
    def _folder(self) -> Path:
        return self.models / "liveavatar" / CHECKPOINT

    @property
    def _transformer(self) -> Path:
        """The one file of the transformer."""
        (file,) = self._folder.glob("diffusion_pytorch_model-*.safetensors")
        return file

    def _single(self, name: str) -> Path:
        return self.models / "diffusion_models" / f"benchmark_{name}"

    def _state(self) -> dict[str, Tensor]:
        return load_file(self._transformer)

    def _liveavatar(self) -> None:
        # As wide as ComfyUI builds its S2V model whatever the file says.
        small = replace(TINY, audio_width=HOST_AUDIO_DIM, audio_heads=16, shards=1)
        sizes = small if self.tiny else FULL
        once(
            self._folder,
            lambda folder: tiny_checkpoint.write_base(folder, HOST_TEXT_DIM, HOST_AUDIO_DIM, sizes),
        )
        lora = self.models / "liveavatar" / LORA
        once(lora, lambda path: save_file(tiny_checkpoint.lora_weights(self._state(), sizes), path))
        self._vae()

    def _vae(self) -> None:
        """For ComfyUI's loader."""
        shapes = tiny_checkpoint.vae_shapes((TINY if self.tiny else FULL).vae_width)
        file = self.models / "vae" / "benchmark_vae.safetensors"
        once(file, lambda path: save_file(tiny_checkpoint.weights(shapes, torch.bfloat16), path))

    def _sdxl(self, path: Path) -> None:
        """In a process of its own, which has the host's modules."""
        program = Path(__file__).with_name("write_sdxl.py")
        paths = os.pathsep.join(filter(None, [str(self.host), os.environ.get("PYTHONPATH"), str(ROOT)]))
        command = [sys.executable, str(program), str(path), *(["--tiny"] if self.tiny else [])]
        subprocess.run(command, cwd=self.host, env={**os.environ, "PYTHONPATH": paths}, check=True)

    def _ditto(self, folder: Path) -> None:
        from tools import tiny_ditto
        from tools.tiny_ditto_graphs import write_graphs

        sizes = tiny_ditto.TINY if self.tiny else tiny_ditto.FULL
        write_graphs(tiny_ditto.write_tiny_ditto(folder, sizes=sizes))

    def _longcat(self, kind: str) -> None:
        from avatar.engines.longcat.config import LongCatConfig
        from avatar.engines.longcat.transformer import LongCatTransformer

        from tools import tiny_longcat

        self._vae()
        text_dim = TEXT_DIM if self.tiny else HOST_TEXT_DIM
        once(
            self.models / "liveavatar" / TEXT,
            lambda folder: tiny_checkpoint.write_base(folder, text_dim, tiny_checkpoint.AUDIO_DIM),
        )
        config = tiny_longcat.TINY["1.5"] if self.tiny else LongCatConfig()
        with torch.device("meta"):
            model = LongCatTransformer(config, torch.bfloat16)
        base = self.models / "longcat" / "benchmark-1.5"
        lora = base / "lora" / "dmd_lora.safetensors"
        once(lora, lambda path: save_file(tiny_longcat.lora_weights(model), path))
        encoder = {} if self.tiny else WHISPER_LARGE
        once(base / "whisper-large-v3", lambda folder: tiny_longcat.write_whisper(folder, **encoder))

        def drawn() -> dict[str, Tensor]:
            shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            return tiny_checkpoint.weights(shapes, torch.bfloat16)

        def write(folder: Path) -> None:
            if kind == "longcat8":
                tiny_longcat.write_eight_bits(folder, tiny_longcat.eight_bits(model, drawn()), config)
            else:
                tiny_longcat.write(folder, "diffusion_pytorch_model", drawn(), config)

        once(self.models / "longcat" / LONGCAT[kind], write)


def once(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` make a file or folder, which appears only when it is complete; nothing if it is there."""
    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    write(part)
    part.rename(path)
