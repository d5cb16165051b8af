"""What a video of this engine costs in memory, for the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

from ..parts.kv.cache import CacheShape
from ..parts.kv.packed import caches_bytes
from ..parts.planning.performance import Performance
from ..parts.precision import short
from ..parts.wan.geometry import SPATIAL_STRIDE
from .config import BLOCK_LATENTS, FLOAT32_PARTS, SIZE_MULTIPLE, S2VConfig, SamplingConfig
from .transformer import S2VTransformer


def cache_shape(architecture: S2VConfig, height: int, width: int, config: SamplingConfig) -> CacheShape:
    """Cache sizes for latents of ``height`` x ``width``."""
    tokens = (height // 2) * (width // 2)
    return CacheShape(
        layers=architecture.num_layers,
        heads=architecture.num_heads,
        head_dim=architecture.head_dim,
        reference_tokens=tokens,
        condition_tokens=tokens * 5 // 2,  # the motion frames are packed to one and a half frames
        ring_tokens=tokens * config.clip_latents,
        block_tokens=tokens * BLOCK_LATENTS,
    )


@dataclass(frozen=True)
class Model:
    """The transformer as it is before anything is chosen.

    Attributes:
        bytes: of all weights as they are.
        dtype: in which it computes.
        streams: whether its owner brings weights that do not fit to the GPU layer by layer (ComfyUI does).
    """

    architecture: S2VConfig
    bytes: int
    dtype: torch.dtype
    streams: bool = True


@dataclass(frozen=True)
class VideoCosts:
    """The `Costs` of a video of ``width`` x ``height`` pixels."""

    model: Model
    height: int
    width: int
    sampling: SamplingConfig
    size_multiple: int = SIZE_MULTIPLE
    blocks: int | None = None

    @property
    def window_blocks(self) -> int:
        return self.sampling.clip_blocks

    @property
    def steps(self) -> int:
        return self.sampling.steps

    @property
    def forwards(self) -> int:
        return self.sampling.forwards

    @property
    def layers(self) -> int:
        return self.model.architecture.num_layers

    @property
    def weights(self) -> int:
        return self.model.bytes

    @property
    def precision(self) -> str:
        """See `Costs`."""
        return short(self.model.dtype)

    @property
    def streams(self) -> bool:
        return self.model.streams

    def caches(self, performance: Performance, forwards: int | None = None) -> tuple[int, int]:
        """See `Costs`."""
        size = self.height // SPATIAL_STRIDE, self.width // SPATIAL_STRIDE
        here, waiting = caches_bytes(
            cache_shape(self.model.architecture, *size, self.sampling),
            self.forwards if forwards is None else forwards,
            self.model.dtype,
            performance.caches,
            performance.caches_on_cpu,
        )
        return self._evaluations * here, self._evaluations * waiting

    def graphs(self, forwards: int) -> int:
        """See `Costs`: each writes to one slot of the window."""
        return self._evaluations * forwards * self.window_blocks

    @property
    def _evaluations(self) -> int:
        return 2 if self.sampling.guided else 1

    def fp8_weights(self) -> tuple[int, int]:
        """See `Costs`."""
        return fp8_bytes(self.model.architecture, self.model.dtype)

    def smaller(self, height: int, width: int) -> VideoCosts:
        """See `Costs`."""
        return replace(self, height=height, width=width)

    def in_steps(self, steps: int) -> VideoCosts:
        """See `Costs`."""
        return replace(self, sampling=replace(self.sampling, steps=steps))


@cache
def fp8_bytes(architecture: S2VConfig, dtype: torch.dtype) -> tuple[int, int]:
    """Memory of a transformer after `fp8_blocks.quantise_transformer`: all of it, and one of its blocks."""
    with torch.device("meta"):
        model = S2VTransformer(architecture)
    quantised = (*model.blocks, *model.audio_injector.injector)

    def size(module: torch.nn.Module) -> int:
        return sum(
            parameter.numel() if parameter.ndim == 2 else parameter.numel() * dtype.itemsize
            for parameter in module.parameters()
        )

    inside = {id(p) for module in quantised for p in module.parameters()}
    rest = sum(
        parameter.numel() * (4 if name.startswith(FLOAT32_PARTS) else dtype.itemsize)
        for name, parameter in model.named_parameters()
        if id(parameter) not in inside
    )
    return sum(map(size, quantised)) + rest, size(model.blocks[0])
