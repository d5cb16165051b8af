"""Denoising one segment of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..parts.wan.rope import RotaryEmbedding, Rotation
from .cache import CleanCache, EightBitCache
from .config import SamplingConfig
from .layout import Layout
from .schedule import guided, schedule
from .speakers import Speakers
from .transformer import LongCatTransformer, Text


@dataclass(frozen=True)
class Prompts:
    """What the video shall show, and, with guidance, what it shall not show."""

    wanted: Text
    unwanted: Text | None = None


@dataclass(frozen=True)
class Prepared:
    """What all denoising steps of a segment share, on the device."""

    layout: Layout
    clean: CleanCache | EightBitCache
    rotation: Rotation
    speech: Tensor
    silence: Tensor | None


class SegmentSampler:
    """Denoises the latents of a segment; it keeps nothing from one segment to the next.

    Args:
        model: the transformer.
        config: steps, guidance, and the places of reference and skip range.
        prompts: with guidance, both.
        speakers: with several voices.
        device: on which all of it is.
        check_interrupt: called before every pass of the network; raises to stop the run.
        attention8: attend in 8 bits where there are clean latents.
    """

    def __init__(
        self,
        model: LongCatTransformer,
        config: SamplingConfig,
        prompts: Prompts,
        speakers: Speakers | None,
        device: torch.device,
        check_interrupt: Callable[[], None] = lambda: None,
        attention8: bool = False,
    ) -> None:
        if config.guided and prompts.unwanted is None:
            raise ValueError("Give a negative prompt, be it an empty one: guidance compares with it.")
        self.model, self.config, self.prompts, self.speakers = model, config, prompts, speakers
        self.device, self.check_interrupt, self.attention8 = device, check_interrupt, attention8
        version = model.config.version
        self._levels = {continuing: schedule(version, config, continuing) for continuing in (False, True)}
        self.rope = RotaryEmbedding(model.config.head_dim, half_precision=False)

    @torch.inference_mode()
    def prepare(self, layout: Layout, clean: Tensor | None, windows: Tensor) -> Prepared:
        """Run the clean latents through the network, once for all steps, and make the speech into tokens.

        Args:
            clean: normalised latents [1, 16, layout.clean, h, w], the reference first; None without any.
            windows: of all frames of the segment [voices, frames, 5, groups, channels]; see `speech_windows`.
        """
        cache = CleanCache(layout)
        if clean is not None and self.attention8:
            several = self.speakers is not None
            cache = EightBitCache(layout, self.model.config, self.device, self.model.dtype, several)
        if clean is not None:
            self.check_interrupt()
            still = self.model.encode_time(torch.zeros(1, device=self.device))
            rotation = layout.clean_rotation(self.rope, self.device)
            self.model.prefill(clean.to(self.device), layout, still, rotation, cache.store)
        windows = windows.to(self.device)
        return Prepared(
            layout,
            cache,
            layout.noisy_rotation(self.rope, self.device),
            self.model.encode_speech(windows)[-layout.noisy :],
            self.model.encode_speech(torch.zeros_like(windows))[-layout.noisy :]
            if self.config.guided
            else None,
        )

    @torch.inference_mode()
    def flow(self, latents: Tensor, timestep: Tensor, prepared: Prepared) -> Tensor:
        """The flow (clean minus noise) of noisy latents [1, 16, noisy, h, w] at a timestep, guided if need be."""
        time = self.model.encode_time(timestep.to(self.device).view(1))

        def evaluate(text: Text, speech: Tensor) -> Tensor:
            self.check_interrupt()
            return self.model(latents, time, prepared.rotation, prepared.clean, text, speech, self.speakers)

        prompted = evaluate(self.prompts.wanted, prepared.speech)
        if not self.config.guided:
            return prompted
        unprompted = evaluate(self.prompts.unwanted, prepared.speech)
        return guided(prompted, unprompted, evaluate(self.prompts.unwanted, prepared.silence), self.config)

    def denoise(self, noise: Tensor, prepared: Prepared) -> Iterator[Tensor]:
        """Yield the latents after each step, float32 [1, 16, noisy, h, w]; the last ones are the result."""
        levels = self._levels[prepared.layout.position is not None]
        latents = noise.to(self.device, torch.float32)
        for index, timestep in enumerate(levels.timesteps):
            latents = levels.step(latents, self.flow(latents, timestep, prepared), index)
            yield latents
