"""Random models of LiveAvatar and what is asked of them, for its benchmark."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FLOAT32_PARTS, FPS, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.framepack import HISTORY_LATENTS
from avatar.engines.liveavatar.pipeline import Scene
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.speech_timing import TRACK_RATE
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.fast_decoder import FastDecoder, TinyDecoder
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

TINY = S2VConfig(
    dim=256, ffn_dim=512, num_heads=2, num_layers=4, text_dim=64, audio_dim=32, audio_inject_layers=(0, 2)
)
SMALL = replace(TINY, dim=512, ffn_dim=1024, num_heads=4)
PROMPT_TOKENS = 64


def random_transformer(
    config: S2VConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> S2VTransformer:
    """A transformer with random weights, drawn on the device, on which activations stay near one."""
    with torch.device("meta"):
        model = S2VTransformer(config)
    fill(model, device, dtype, torch.Generator(device).manual_seed(seed))
    return model.eval().requires_grad_(False)


def fill(
    model: nn.Module, device: torch.device, dtype: torch.dtype, generator: torch.Generator, prefix: str = ""
) -> None:
    """Random weights for a model, or for the part of one that is called ``prefix``, in place of missing ones."""
    norms = {
        f"{name}." for name, layer in model.named_modules() if isinstance(layer, nn.LayerNorm | nn.RMSNorm)
    }
    state = {}
    for name, parameter in model.named_parameters():
        kept = torch.float32 if (prefix + name).startswith(FLOAT32_PARTS) else dtype
        values = torch.empty(parameter.shape, device=device, dtype=kept)
        if name.endswith("weight") and name.removesuffix("weight") in norms:
            values.fill_(1)
        else:
            matrix = name.endswith("weight") and parameter.ndim > 1
            spread = 1 / math.sqrt(parameter[0].numel()) if matrix else 0.1
            values.normal_(0, spread, generator=generator)
        state[name] = values
    model.load_state_dict(state, assign=True)


def random_vae(width: int, device: torch.device, dtype: torch.dtype) -> WanVAE:
    """Wan 2.1's autoencoder (``width`` 96 is the published one) with random weights."""
    with device:
        model = AutoencoderKLWan(base_dim=width)
    return WanVAE(nn.Module.to(model, dtype).eval().requires_grad_(False))


def random_fast_decoder(device: torch.device, dtype: torch.dtype) -> FastDecoder:
    """A decoder of the published TAEHV's size with random weights."""
    with torch.device("meta"):
        network = TinyDecoder()
    fill(network, device, dtype, torch.Generator(device).manual_seed(3))
    return FastDecoder(network.eval().requires_grad_(False), "random")


def random_scene(config: S2VConfig, size: tuple[int, int], blocks: int, device: torch.device) -> Scene:
    """A prompt of `PROMPT_TOKENS`, latents of portrait and history, and speech for ``blocks`` blocks."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    width, height = size
    return Scene(
        context=draw(PROMPT_TOKENS, config.text_dim).to(device),
        reference=draw(1, config.in_dim, 1, height // 8, width // 8).to(device),
        motion=draw(1, config.in_dim, HISTORY_LATENTS, height // 8, width // 8).to(device),
        speech=Tracks(
            [draw(config.audio_layers, blocks * BLOCK_FRAMES * TRACK_RATE // FPS + 2, config.audio_dim)]
        ),
    )


def sampler_for(
    model: S2VTransformer,
    scene: Scene,
    config: SamplingConfig,
    performance: Performance = RESIDENT,
    steps: range | None = None,
) -> BlockSampler:
    return BlockSampler(
        model,
        config,
        context=scene.context,
        reference=scene.reference,
        motion=scene.motion,
        performance=performance,
        steps=steps,
    )


def cache_format(int8: bool, attention8: bool) -> CacheFormat:
    """The format of the caches that a benchmark's flags ask for."""
    if attention8:
        return CacheFormat.ATTENTION8
    return CacheFormat.INT8 if int8 else CacheFormat.MODEL


def floating_point_operations(config: S2VConfig, tokens: int, keys: int) -> dict[str, float]:
    """Operations of one denoising step in TFLOP; ``tokens`` in a block, ``keys`` that it sees."""
    dim, layers, injections = config.dim, config.num_layers, len(config.audio_inject_layers)
    matrices = layers * (6 * dim**2 + 2 * dim * config.ffn_dim) + injections * 2 * dim**2
    prompt = PROMPT_TOKENS + 1  # all of its padding is one token
    attention = layers * (keys + prompt) + injections * (config.num_audio_token + 1)
    return {"GEMM": 2 * tokens * matrices / 1e12, "attention": 4 * tokens * dim * attention / 1e12}


def cache_state(sampler: BlockSampler) -> list[dict[str, Any]]:
    """What each step's cache holds; ``finite`` looks at every key and value of its window."""
    return [
        {
            "step": step,
            "GB of its window": sum(part.nbytes for part in cache.window()) / 1e9,
            "visible tokens": cache.visible_tokens,
            "reference position": cache.reference_time,
            "blocks": cache.blocks,
            "finite": all(bool(part.float().isfinite().all()) for part in cache.window()),
        }
        for step, cache in sampler.caches.items()
    ]


def check_precision(
    device: torch.device, dtype: torch.dtype, performance: Performance = RESIDENT
) -> list[dict[str, Any]]:
    """A small model on the device against float32 on the CPU: 5 blocks, over a ring wrap and a new reference.

    Weights are the same and each block follows from the ones before it, so errors may add up. Runs in ``dtype`` as it
    is, and once more with ``performance`` where that rounds more.
    """
    cpu, size, blocks = torch.device("cpu"), (128, 128), 5
    sampling = SamplingConfig(frames_per_clip=2 * BLOCK_FRAMES)
    state = random_transformer(SMALL, cpu, torch.float32).state_dict()

    def rollout(
        device: torch.device, dtype: torch.dtype, performance: Performance = RESIDENT
    ) -> list[Tensor]:
        model = random_transformer(SMALL, device, dtype)
        model.load_state_dict(state)
        if performance.fp8:
            quantise_transformer(model)
        scene = random_scene(SMALL, size, blocks, device)
        sampler = sampler_for(model, scene, sampling, performance)
        latents = [sampler.next_block(features) for features in islice(scene.speech.blocks(), blocks)]
        return [x.cpu().double().flatten() for x in latents]

    exact = rollout(cpu, torch.float32)
    runs = {str(kind).removeprefix("torch."): (kind, RESIDENT) for kind in (torch.float32, dtype)}
    if performance.fp8:
        runs["fp8"] = (dtype, Performance(fp8=True))
    eight = performance.caches is CacheFormat.ATTENTION8
    if eight:
        runs["8-bit attention"] = (dtype, Performance(caches=CacheFormat.ATTENTION8))
    if performance.fp8 and eight:
        runs["fp8, 8-bit attention"] = (dtype, performance)
    found = []
    for name, (kind, chosen) in runs.items():
        for block, (ours, truth) in enumerate(zip(rollout(device, kind, chosen), exact, strict=True)):
            found.append(
                {
                    "kind": name,
                    "block": block + 1,
                    "relative error": float((ours - truth).norm() / truth.norm()),
                    "cosine": float(torch.cosine_similarity(ours, truth, dim=0)),
                }
            )
    return found
