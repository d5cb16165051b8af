"""Noise schedule: a DDIM step in which every frame of the window has its own timestep."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import SchedulerConfig, StreamConfig


class Scheduler:
    """Deterministic DDIM (eta 0) over a scaled-linear schedule, with one timestep per frame."""

    def __init__(self, config: SchedulerConfig | None = None):
        config = config or SchedulerConfig()
        root = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.train_steps)
        self.betas = root**2
        self.alphas_cumprod = torch.cumprod(1 - self.betas, 0)
        self._table = torch.cat([self.alphas_cumprod, torch.ones(1)])  # index -1 is the clean state

    def timesteps(self, steps: int) -> list[int]:
        """``steps`` timesteps from the noisiest to 0, evenly spaced (999, 666, 333, 0 for four)."""
        last = len(self.betas) - 1
        return [round(last * (steps - 1 - i) / (steps - 1)) for i in range(steps)]

    def window_timesteps(self, config: StreamConfig) -> list[Tensor]:
        """Timesteps ``[window + 1 pass]`` of every frame: entry p is the vector of pass p of a chunk.

        There are ``steps / piles`` passes per chunk. One more vector closes the list: the timesteps that the last pass
        steps to, with -1 for clean. The oldest frames come first.
        """
        every = [*self.timesteps(config.steps), -1]
        passes = config.steps // config.piles
        vectors = []
        for p in range(passes + 1):
            levels = [every[(config.piles - 1 - pile) * passes + p] for pile in range(config.piles)]
            vectors.append(torch.tensor(levels).repeat_interleave(config.chunk))
        return vectors

    def _alpha(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """Cumulative alpha ``[F, 1, 1, 1]`` per timestep, 1 for the clean state (-1)."""
        self._table = self._table.to(like.device)
        return self._table[timesteps.to(like.device)].view(-1, 1, 1, 1)

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noised latents ``[F, C, h, w]`` for timesteps ``[F]`` or ``[1]``."""
        alpha = self._alpha(timesteps, clean).to(clean.dtype)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def step(
        self, noise: Tensor, timesteps: Tensor, previous: Tensor, sample: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step from ``timesteps`` to ``previous`` (``[F]`` each; -1 is clean), in float32.

        Returns the stepped latents and the predicted clean latents, both ``[F, C, h, w]``.
        """
        here, there = self._alpha(timesteps, sample), self._alpha(previous, sample)
        clean = (sample.float() - (1 - here).sqrt() * noise.float()) / here.sqrt()
        return there.sqrt() * clean + (1 - there).sqrt() * noise.float(), clean
