"""Noise levels of the few-step flow-matching sampler."""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """Sigmas and timesteps of diffusers' flow-matching Euler scheduler, and its step.

    With 4 steps and shift 3 the timesteps are 1000, 857.69, 602.15 and 8.93: the third forward does most of the
    work and the fourth hardly moves the sample.

    Attributes:
        timesteps: float32 [forwards], 1000 * sigma.
        sigmas: float32 [forwards + 1], ending in 0.

    Args:
        skip_last_step: leave out the last noise level above 0, so that the step before it goes all the way. The noise
            levels before it stay as they are.
    """

    def __init__(self, steps: int, shift: float, skip_last_step: bool = False) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
        scheduler.set_timesteps(steps)
        timesteps, sigmas = scheduler.timesteps.float(), scheduler.sigmas.float()
        if skip_last_step:
            timesteps, sigmas = timesteps[:-1], torch.cat((sigmas[:-2], sigmas[-1:]))
        self.timesteps: Tensor = timesteps
        self.sigmas: Tensor = sigmas

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, latents: Tensor, flow: Tensor, index: int) -> Tensor:
        """One Euler step from noise level ``index`` to the next; the sum is made in float32."""
        # A tensor without dimensions leaves the product in the flow's precision, as in the scheduler's own step.
        delta = self.sigmas[index + 1] - self.sigmas[index]
        return (latents.float() + delta * flow).to(flow.dtype)


def clip_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Noise of one clip, float32 on the CPU, so that a seed gives the same video on every device.

    Seeds have 64 bits: behind the largest follows 0.
    """
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed % 2**64))
