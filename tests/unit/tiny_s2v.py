"""A small random S2V transformer, and what a sampler needs to run it."""

from __future__ import annotations

import functools
from types import MappingProxyType

import torch
from avatar.engines.liveavatar.config import BLOCK_FRAMES, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import S2VTransformer

from tools.checkpoint_shapes import AUDIO_LAYERS, transformer_shapes
from tools.tiny_checkpoint import weights

HEIGHT = WIDTH = 8  # latents
GRID = (HEIGHT // 2, WIDTH // 2)
TOKENS = GRID[0] * GRID[1]
CONFIG = S2VConfig(
    dim=128,
    ffn_dim=192,
    num_heads=1,
    num_layers=3,
    text_dim=8,
    text_len=12,
    audio_dim=8,
    audio_inject_layers=(0, 2),
)


@functools.lru_cache
def model(dtype: torch.dtype = torch.float32) -> S2VTransformer:
    """The transformer; the same weights in every call."""
    shapes = transformer_shapes(
        CONFIG.dim,
        CONFIG.ffn_dim,
        CONFIG.num_layers,
        len(CONFIG.audio_inject_layers),
        CONFIG.text_dim,
        CONFIG.audio_dim,
    )
    transformer = S2VTransformer(CONFIG).to(dtype)
    transformer.load_state_dict(weights(shapes, dtype))
    return transformer.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal values that depend on nothing but the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def condition(seed: int = 0) -> dict[str, torch.Tensor]:
    """Prompt, portrait and motion history of a `BlockSampler`."""
    return {
        "context": noise(5, CONFIG.text_dim, seed=seed),
        "reference": noise(1, 16, 1, HEIGHT, WIDTH, seed=seed + 1),
        "motion": noise(1, 16, 19, HEIGHT, WIDTH, seed=seed + 2),
    }


def features(block: int = 0, speakers: int = 1) -> torch.Tensor:
    """Speech features of a block, different for each block and speaker."""
    return noise(speakers, AUDIO_LAYERS, CONFIG.audio_dim, BLOCK_FRAMES, seed=1000 + block)


def track(seconds: float, seed: int = 0) -> torch.Tensor:
    """A speaker's feature track, 30 per second."""
    return noise(AUDIO_LAYERS, round(seconds * 30), CONFIG.audio_dim, seed=seed)


def sampler(
    check_interrupt=lambda: None, steps_done: range | None = None, moods=MappingProxyType({}), **options
) -> BlockSampler:
    """A sampler of the steps ``steps_done`` at its beginning; ``options`` are those of `SamplingConfig`."""
    return BlockSampler(
        model(),
        SamplingConfig(**options),
        **condition(),
        check_interrupt=check_interrupt,
        steps=steps_done,
        moods=moods,
    )
