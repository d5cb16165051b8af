"""Noise levels of LongCat's flow-matching sampler, and how its guided flow is made of three."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import SamplingConfig, Version

TRAINED = 1000
"""Timesteps of the training."""
TAIL_FROM, TAIL_STEP = 500, 50
"""Where the even steps of a uniform tail begin, and how far they are apart."""


class Schedule:
    """Sigmas and timesteps of a segment, and the Euler step between them.

    Attributes:
        timesteps: float32 [steps], the network's input.
        sigmas: float32 [steps + 1], ending in 0.
    """

    def __init__(self, timesteps: Tensor) -> None:
        self.timesteps = timesteps
        self.sigmas = torch.cat((timesteps / TRAINED, torch.zeros(1)))

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, latents: Tensor, flow: Tensor, index: int) -> Tensor:
        """One Euler step in float32; ``flow`` is the network's output, which points from noise to data."""
        delta = self.sigmas[index] - self.sigmas[index + 1]
        return latents.float() + delta * flow.float()


def base_sigmas(version: Version, steps: int, distilled: bool) -> Tensor:
    """Sigmas before the shift, float32 [steps].

    ValueError for a distilled number of steps that the version's LoRA does not know.
    """
    if not distilled:
        return torch.linspace(1, 1 / TRAINED, steps)
    if version.old_latents:
        places = torch.tensor([20 * (50 * index // steps) for index in range(steps)])
        return (TRAINED - places) / TRAINED
    if steps != version.distilled_steps:
        raise ValueError(
            f"Set steps to {version.distilled_steps}: version {version.name} is distilled for exactly that many."
        )
    return 1 - torch.arange(steps) * (TRAINED // steps) / (TRAINED - 1)


def schedule(version: Version, config: SamplingConfig, continuation: bool) -> Schedule:
    """The noise levels of a segment."""
    sigmas = base_sigmas(version, config.steps, config.distilled)
    timesteps = TRAINED * config.shift * sigmas / (1 + (config.shift - 1) * sigmas)
    if continuation and config.uniform_tail:
        tail = torch.arange(TAIL_FROM, 0, -TAIL_STEP)
        timesteps = torch.cat((timesteps[timesteps > TAIL_FROM], tail))
    return Schedule(timesteps.float())


def guided(prompted: Tensor, unprompted: Tensor, silent: Tensor, config: SamplingConfig) -> Tensor:
    """The guided flow from that with prompt and speech, with the negative prompt and speech, and with the negative
    prompt in silence."""
    text, audio = config.text_guidance, config.audio_guidance
    return silent + text * (prompted - unprompted) + audio * (unprompted - silent)
