"""A tiny talker from its folder: speech and a portrait in, latents and pixels out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.fp8 import require_fp8
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES, PRIME_LATENTS, encode_reference
from avatar.engines.liveavatar.config import BLOCK_LATENTS, FPS, SamplingConfig
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.pipeline import Scene, block_count, generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.speech_timing import feature_track
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.fast_decoder import FastDecoder
from avatar.engines.parts.wan.streaming import LatentDecoder, to_uint8_frames
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.liveavatar.transformer import load_transformer
from avatar.loaders.wan.fast_decoder import load_tiny_decoder
from avatar.loaders.wan.text import TextEncoder
from avatar.loaders.wan.vae import load_vae
from avatar.loaders.wan.wav2vec2 import SAMPLE_RATE, AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_states

PROMPT = "A person looks into the camera and speaks."


@dataclass(frozen=True)
class Talker:
    """The parts of a checkpoint folder, on one device; ``decoder`` makes the pixels."""

    model: S2VTransformer
    vae: WanVAE
    decoder: LatentDecoder
    audio: AudioEncoder
    text: TextEncoder
    device: torch.device
    performance: Performance

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, performance: Performance = RESIDENT
    ) -> Talker:
        """What `training.export` writes, with its LoRA where there is one."""
        base, lora = folder / "base", folder / "lora" / "liveavatar.safetensors"
        model = load_transformer(base, dtype, device, lora if lora.is_file() else None)
        if performance.fp8:
            require_fp8(device)
            quantise_transformer(model)
        vae = WanVAE(load_vae(base / "Wan2.1_VAE.pth", dtype, device))
        audio = AudioEncoder.from_folder(base / "wav2vec2-large-xlsr-53-english", device, torch.float32)
        return cls(model, vae, vae, audio, TextEncoder.from_folder(base), device, performance)

    def with_fast_decoder(self, file: Path) -> Talker:
        """The same, with pixels from the small decoder in ``file``."""
        network = load_tiny_decoder(file).to(self.device, self.vae.dtype)
        return replace(self, decoder=FastDecoder(network, file.stem))

    def hear(self, samples: Tensor) -> Tensor:
        """Features of mono samples [S] at 16 kHz, with the pre-roll put in front."""
        silence = torch.zeros(PRE_ROLL_FRAMES * SAMPLE_RATE // FPS)
        return feature_track(hidden_states(self.audio, torch.cat([silence, samples])))

    def read(self, prompt: str) -> Tensor:
        """What the transformer gets of a prompt."""
        return self.text.encode(prompt).to(self.device, self.vae.dtype)

    def scene(self, portrait: Tensor, samples: Tensor, prompt: str = PROMPT) -> Scene:
        """Portrait [1, 3, 1, S, S] in [-1, 1] and mono samples [S] at 16 kHz."""
        reference, motion = encode_reference(self.vae, portrait.to(self.device))
        return Scene(self.read(prompt), reference, motion, Tracks([self.hear(samples)]))

    def sampler(self, scene: Scene, config: SamplingConfig) -> BlockSampler:
        """A sampler at the beginning of a scene's video."""
        return BlockSampler(
            self.model,
            config,
            context=scene.context,
            reference=scene.reference,
            motion=scene.motion,
            performance=self.performance,
        )

    def latents(self, scene: Scene, frames: int, config: SamplingConfig) -> Tensor:
        """The latents [1, 16, f, h, w] of a video of so many frames."""
        sampler, blocks = self.sampler(scene, config), islice(scene.speech.blocks(), block_count(frames))
        return torch.cat([sampler.next_block(features) for features in blocks], 2)

    def decode(self, scene: Scene, latents: Tensor, frames: int) -> Tensor:
        """Pixels uint8 [F, S, S, 3] of `latents`, block by block as `video` makes them."""
        decoder = self.decoder.stream()
        decoder.prime(scene.motion[:, :, :PRIME_LATENTS])
        blocks = [to_uint8_frames(decoder(block)).cpu() for block in latents.split(BLOCK_LATENTS, 2)]
        return torch.cat(blocks)[PRE_ROLL_FRAMES:][:frames]

    def video(self, scene: Scene, frames: int, config: SamplingConfig) -> Tensor:
        """Pixels uint8 [F, S, S, 3] by the streaming pipeline."""
        blocks = list(generate(self.model, self.decoder, scene, config, frames, performance=self.performance))
        return torch.cat(blocks)[:frames]


def floats(frames: Tensor) -> Tensor:
    """uint8 [F, H, W, 3] -> float [F, 3, H, W] in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1
