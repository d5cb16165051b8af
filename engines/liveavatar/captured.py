"""Denoising steps as CUDA graphs: one launch in place of some 1300, for GPUs that wait for Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakMethod

import torch
from torch import Tensor

from ..gpu.graphs import CapturedCalls, GraphLane, obstacle
from ..gpu.weights import Weights
from .audio_injection import SpeechTokens
from .transformer import S2VTransformer

if TYPE_CHECKING:
    from .sampler import BlockInputs

Forward = Callable[[int, Tensor, "BlockInputs"], Tensor]
"""(step, latents, inputs) -> flow."""


class CapturedSteps:
    """Replays the forward passes of blocks that see a full window and are made with the video's own prompt.

    A graph writes to the slot of the ring with which it was captured, so each step has one for every slot. They compute
    bit for bit what calls compute.

    Args:
        forward: a sampler's, which owns the caches that it uses; these have to stay where they are.
        model: whose weights are used.

    Raises:
        ValueError: graphs cannot be had on ``device``.
    """

    def __init__(self, forward: Forward, model: S2VTransformer, device: torch.device) -> None:
        if why := obstacle(device):
            raise ValueError(f"Leave CUDA graphs off: they {why}.")
        # Weakly, since the sampler holds this, and its caches shall go when it does.
        self._forward = WeakMethod(forward)
        self._calls = CapturedCalls(GraphLane(device), Weights(model), try_convolutions=False)
        self._met: set[int] = set()

    @property
    def moved(self) -> bool:
        """Whether weights were moved since the first graph was captured."""
        return self._calls.moves > 0

    def __call__(self, step: int, slot: int, latents: Tensor, inputs: BlockInputs) -> Tensor:
        """The flow [1, 16, 3, h, w] of `BlockSampler.predict`; the first call for a step and a slot captures it."""
        mask = [] if inputs.speaker_mask is None else [inputs.speaker_mask]
        speech = [
            (tokens.shift, tokens.scale, tokens.k, tokens.v) for tokens in inputs.speech if tokens is not None
        ]
        given = latents, inputs.rotation, inputs.pose, mask, speech
        warm_up = int(slot not in self._met)  # all steps use the same kernels
        self._met.add(slot)
        return self._calls(self._on_tensors(step, inputs), given, (step, slot), warm_up)

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
