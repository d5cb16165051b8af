"""Guidance: every step is done twice, with and without prompt and speech, and their difference is enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..parts.kv.cache import CacheFormat
from .config import SamplingConfig
from .moods import NEUTRAL
from .sampler import BlockInputs, BlockSampler
from .transformer import S2VTransformer


class GuidedSampler(BlockSampler):
    """A `BlockSampler` whose flow is ``unwanted + guidance * (wanted - unwanted)``, as Wan2.2-S2V samples without a
    LoRA.

    The unwanted flow is that of the negative prompt in silence. It depends on what it has seen of earlier blocks
    itself, so it is made by a sampler of its own, with as many caches; pictures, noise and places are the same.

    Args:
        negative: text embedding of the negative prompt [tokens, text_dim].
        others: as for `BlockSampler`.
    """

    def __init__(
        self, model: S2VTransformer, config: SamplingConfig, *, negative: Tensor, **others: Any
    ) -> None:
        own = {"context": negative, "moods": {}, "prefilled": False}
        self._unwanted = _Unwanted(model, config, **{**others, **own})
        super().__init__(model, config, **others)  # which prefills both

    def set_condition(self, reference: Tensor, motion: Tensor) -> None:
        """See `BlockSampler`."""
        super().set_condition(reference, motion)
        self._unwanted.set_condition(reference, motion)

    def prepare_block(
        self,
        features: Tensor,
        pose: Tensor | None = None,
        speaker_mask: Tensor | None = None,
        mood: str = NEUTRAL,
    ) -> BlockInputs:
        """See `BlockSampler`."""
        self._silence = self._unwanted.prepare_block(torch.zeros_like(features), pose, speaker_mask)
        return super().prepare_block(features, pose, speaker_mask, mood)

    def predict(self, inputs: BlockInputs, latents: Tensor, step: int) -> Tensor:
        """See `BlockSampler`."""
        wanted = super().predict(inputs, latents, step)
        unwanted = self._unwanted.predict(self._silence, latents, step)
        difference = wanted.float() - unwanted.float()
        return (unwanted.float() + self.config.guidance * difference).to(wanted.dtype)

    def finish_block(self, latents: Tensor) -> None:
        """See `BlockSampler`."""
        super().finish_block(latents)
        self._unwanted.finish_block(latents)

    @property
    def caches_on_cpu(self) -> bool:
        """See `BlockSampler`."""
        return super().caches_on_cpu and self._unwanted.caches_on_cpu

    def move_caches_to_cpu(self, format: CacheFormat, count: int | None = None) -> None:
        """See `BlockSampler`."""
        super().move_caches_to_cpu(format, count)
        self._unwanted.move_caches_to_cpu(format, count)

    @property
    def replays(self) -> bool:
        """See `BlockSampler`."""
        return super().replays or self._unwanted.replays

    def drop_unfinished(self) -> None:
        """See `BlockSampler`."""
        super().drop_unfinished()
        self._unwanted.drop_unfinished()

    def begin_again(self) -> None:
        """See `BlockSampler`."""
        super().begin_again()
        self._unwanted.begin_again()

    def state(self) -> dict[str, Tensor]:
        """See `BlockSampler`."""
        return super().state() | self._unwanted.state()

    def restore(self, state: Mapping[str, Tensor], blocks: int) -> None:
        """See `BlockSampler`."""
        super().restore(state, blocks)
        self._unwanted.restore(state, blocks)


class _Unwanted(BlockSampler):
    """The sampler of the second evaluation, whose windows have names of their own in a saved state."""

    def _windows(self) -> Iterator[tuple[str, Tensor]]:
        return ((f"unwanted.{name}", part) for name, part in super()._windows())
