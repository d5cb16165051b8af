"""Wan's encoder and decoder as sequences of steps, each with a part of the feature cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample, WanResidualBlock
from torch import Tensor, nn

from . import vae_fused

Cache = list[Tensor | None]

PAST = 2
"""Frames before its own that a causal convolution keeps, since it sees three."""


class Step(NamedTuple):
    """Some layers of a network.

    Attributes:
        run: ``(x, cache)`` to the result. ``x`` [B, C, F, h, w]; ``cache`` are this step's entries, None at the start
            of a video, which are replaced (their tensors stay as they are).
        slots: where these entries are in the cache of the whole network.
        reach: frames before its own that a result depends on.
        speed: frames that come out for one that goes in.
    """

    run: Callable[[Tensor, Cache], Tensor]
    slots: slice
    reach: int
    speed: int


def encoder_steps(encoder: nn.Module) -> list[Step]:
    """The steps of a ``WanEncoder3d``."""
    return _number(encoder, [*encoder.down_blocks, *_middle(encoder)])


def decoder_steps(decoder: nn.Module) -> list[Step]:
    """The steps of a ``WanDecoder3d``; the last one gives pixels [B, 3, F, 8 h, 8 w]."""
    ups = [layer for block in decoder.up_blocks for layer in (*block.resnets, *(block.upsamplers or ()))]
    return _number(decoder, [*_middle(decoder), *ups])


def run(steps: list[Step], x: Tensor, cache: Cache) -> Tensor:
    """Send ``x`` through the steps; the entries of ``cache`` are replaced."""
    for step in steps:
        part = cache[step.slots]
        x = step.run(x, part)
        cache[step.slots] = part
    return x


def slots(steps: list[Step]) -> int:
    """Entries in the cache of all steps."""
    return steps[-1].slots.stop


def latents_needed(steps: list[Step]) -> list[int | None]:
    """For each step of a decoder: from how many of the last latents its cache, and those behind it, follow.

    A convolution's cache needs the last two frames of its input, these need the last four of the one before, and so
    on. None for the steps before the last that changes the rate, which always have to run.
    """
    needed: list[int | None] = []
    rate = 1
    for step in steps:
        rate *= step.speed
    last = max((i for i, step in enumerate(steps) if step.speed > 1), default=-1)
    frames = 0
    for step in reversed(steps[last + 1 :]):
        frames = max(frames + step.reach, PAST if step.reach else 0)
        needed.append(-(-frames // rate))
    return [None] * (last + 1) + needed[::-1]


def _number(network: nn.Module, layers: list[nn.Module]) -> list[Step]:
    steps: list[Step] = []

    def add(run: Callable, entries: int, speed: int = 1) -> None:
        start = steps[-1].slots.stop if steps else 0
        steps.append(Step(run, slice(start, start + entries), PAST * entries, speed))

    add(partial(_convolve, network.conv_in), 1)
    for layer in layers:
        if isinstance(layer, WanResidualBlock):
            add(partial(_residual, layer), 2)
        elif isinstance(layer, WanAttentionBlock):
            add(partial(_attend, layer), 0)
        else:
            timed = hasattr(layer, "time_conv")
            add(partial(_resample, layer), int(timed), 2 if timed and layer.mode == "upsample3d" else 1)
    add(partial(_finish, network.norm_out, network.nonlinearity, network.conv_out), 1)
    return steps


def _middle(network: nn.Module) -> Iterator[nn.Module]:
    block = network.mid_block
    yield block.resnets[0]
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        yield attention
        yield resnet


def _convolve(layer: nn.Module, x: Tensor, cache: Cache) -> Tensor:
    past = cache[0]
    seen = x if past is None else torch.cat((past.to(x.device), x), 2)
    cache[0] = seen[:, :, -PAST:].clone()
    return layer(x, past)


def _residual(block: WanResidualBlock, x: Tensor, cache: Cache) -> Tensor:
    if vae_fused.usable(x):
        return vae_fused.residual(block, x, cache)
    return block(x, feat_cache=cache, feat_idx=[0])


def _attend(block: WanAttentionBlock, x: Tensor, cache: Cache) -> Tensor:
    return block(x)


def _resample(layer: WanResample, x: Tensor, cache: Cache) -> Tensor:
    if layer.mode.startswith("upsample") and vae_fused.usable(x):
        return vae_fused.upsample(layer, x, cache)
    return layer(x, feat_cache=cache, feat_idx=[0])


def _finish(norm: nn.Module, activation: nn.Module, layer: nn.Module, x: Tensor, cache: Cache) -> Tensor:
    if vae_fused.usable(x):
        return vae_fused.finish(norm, layer, x, cache)
    return _convolve(layer, activation(norm(x)), cache)
