"""Denoising steps as CUDA graphs: one launch in place of some 1300, for GPUs that wait for Python."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakMethod

import torch
from torch import Tensor

from ..gpu.graphs import CapturedCall, GraphLane, can_capture
from ..parts.planning.performance import Performance
from .audio_injection import SpeechTokens

if TYPE_CHECKING:
    from .sampler import BlockInputs

Forward = Callable[[int, Tensor, "BlockInputs"], Tensor]
"""(step, latents, inputs) -> flow."""
WARM_UP_RUNS = 1
"""Blocks of a shorter window have met all kernels already."""

_one_at_a_time = threading.Lock()


class CapturedSteps:
    """Replays the forward passes of blocks that see a full window.

    A graph writes to the slot of the ring with which it was captured, so each step has one for every slot. Weights and
    caches have to stay where they are.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        # Weakly, since the sampler holds this, and its caches shall go when it does.
        self._forward, self._lane = WeakMethod(forward), GraphLane(device)
        self._calls: dict[tuple[int, int], CapturedCall] = {}

    def __call__(self, step: int, slot: int, latents: Tensor, inputs: BlockInputs) -> Tensor:
        """The flow [1, 16, 3, h, w] of `BlockSampler.predict`; the first call for a step and a slot captures it."""
        mask = [] if inputs.speaker_mask is None else [inputs.speaker_mask]
        speech = [
            (tokens.shift, tokens.scale, tokens.k, tokens.v) for tokens in inputs.speech if tokens is not None
        ]
        given = latents, inputs.rotation, inputs.pose, mask, speech
        call = self._calls.get((step, slot))
        if call is not None:
            return call(*given)
        self._calls[step, slot] = call = CapturedCall(
            self._on_tensors(step, inputs), self._lane, warm_up=WARM_UP_RUNS
        )
        with _one_at_a_time:
            return call(*given)

    def _on_tensors(self, step: int, like: BlockInputs) -> Callable[..., Tensor]:
        """The forward pass as a function of tensors alone; ``like`` says which layers hear something."""
        hearing = [tokens is not None for tokens in like.speech]

        def forward(latents, rotation, pose, mask, speech) -> Tensor:
            heard = iter(speech)
            inputs = replace(
                like,
                speech=[SpeechTokens(*next(heard)) if hears else None for hears in hearing],
                rotation=rotation,
                pose=pose,
                speaker_mask=mask[0] if mask else None,
            )
            return self._forward()(step, latents, inputs)

        return forward


def captured_steps(
    forward: Forward, device: torch.device, performance: Performance, moods: int = 0
) -> CapturedSteps | None:
    """Steps as CUDA graphs where they are wished and can be had; a line in the log says why not."""
    if not performance.graphs:
        return None
    if performance.caches_on_cpu or performance.blocks_on_cpu:
        logging.warning("LiveAvatar: CUDA graphs are off, because caches or blocks wait in CPU memory.")
        return None
    if moods:
        logging.warning(
            "LiveAvatar: CUDA graphs are off, because a graph keeps its prompt and moods change it."
        )
        return None
    if not can_capture(device):
        logging.warning(
            "LiveAvatar: CUDA graphs are off, because they need an NVIDIA GPU and PyTorch's own allocator (of ComfyUI "
            "with --disable-cuda-malloc)."
        )
        return None
    return CapturedSteps(forward, device)
