"""The sliding window of noise levels: four new frames go in, all frames move one level, four clean ones come
out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import StreamConfig
from .scheduler import Scheduler

Denoiser = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass
class Window:
    """The frames in flight, oldest first: latents ``[n, 4, h, w]``, motion tokens, pose features."""

    config: StreamConfig
    scheduler: Scheduler
    latents: Tensor
    motion: Tensor
    pose: Tensor

    def __post_init__(self) -> None:
        self.timesteps = [t.to(self.latents.device) for t in self.scheduler.window_timesteps(self.config)]

    def append(self, latents: Tensor, motion: Tensor, pose: Tensor) -> None:
        """Add the newest frames, at the highest noise level."""
        self.latents = torch.cat([self.latents, latents])
        # an empty tensor would decide the memory order of everything that is appended to it
        self.motion = torch.cat([self.motion, motion]) if len(self.motion) else motion
        self.pose = torch.cat([self.pose, pose]) if len(self.pose) else pose

    def advance(self, denoise: Denoiser, check_interrupt: Callable[[], None]) -> Tensor:
        """Move every frame down one level; take out and return the oldest ones, now clean ``[chunk, 4, h,
        w]``.

        Args:
            denoise: predicts noise from latents, timesteps, motion and pose, all of the whole window.
        """
        for now, after in zip(self.timesteps[:-1], self.timesteps[1:], strict=True):
            check_interrupt()
            noise = denoise(self.latents, now, self.motion, self.pose)
            self.latents, _ = self.scheduler.step(noise, now, after, self.latents)
        chunk = self.config.chunk
        done, self.latents = self.latents[:chunk], self.latents[chunk:]
        self.motion, self.pose = self.motion[chunk:], self.pose[chunk:]
        return done
