"""Wan's encoder and decoder as sequences of steps, each with a part of the feature cache of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample, WanResidualBlock
from torch import Tensor, nn

from . import vae_fused
from .streaming import Cache
from .vae_kernels import PAST


class Step(NamedTuple):
    """Some layers of a network.

    Attributes:
        run: ``(x, cache)`` to the result. ``x`` [B, C, F, h, w]; ``cache`` are this step's entries, None at the start
            of a video, which are replaced (their tensors stay as they are).
        enter: ``(x, cache)``, replaces the first entry as ``run`` does, and computes nothing else; None where there is
            no entry or nothing before it.
        slots: where these entries are in the cache of the whole network, one for each causal convolution.
        speed: frames that come out for one that goes in.
    """

    run: Callable[[Tensor, Cache], Tensor]
    enter: Callable[[Tensor, Cache], None] | None
    slots: slice
    speed: int


class Need(NamedTuple):
    """Numbers of the last latents that a step has to run for, and that enter it, so that no cache lacks anything."""

    run: float
    enter: float


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


def needs(steps: list[Step]) -> list[Need]:
    """The needs of a decoder's steps if only its caches matter.

    A convolution's cache takes the last two frames of its input, these depend on the last four of the one before, and
    so on. The steps before the last that changes the rate always have to run.
    """
    last = max((i for i, step in enumerate(steps) if step.speed > 1), default=-1)
    rate = math.prod(step.speed for step in steps)
    found, frames = [], 0
    for step in reversed(steps[last + 1 :]):
        convolutions = step.slots.stop - step.slots.start
        inner = frames + PAST * max(0, convolutions - 1)
        frames += PAST * convolutions
        found.append(Need(-(-inner // rate), -(-frames // rate)))
    return [Need(math.inf, math.inf)] * (last + 1) + found[::-1]


def prime(steps: list[Step], needed: list[Need], x: Tensor, cache: Cache, left: int) -> None:
    """Let the first of ``left`` latents leave in ``cache`` what those after the last of them will need."""
    count = sum(left <= need.run for need in needed)
    x = run(steps[:count], x, cache)
    if count < len(steps) and left <= needed[count].enter:
        part = cache[steps[count].slots]
        steps[count].enter(x, part)
        cache[steps[count].slots] = part


def _number(network: nn.Module, layers: list[nn.Module]) -> list[Step]:
    steps: list[Step] = []

    def add(run: Callable, entries: int, enter: Callable | None = None, speed: int = 1) -> None:
        start = steps[-1].slots.stop if steps else 0
        steps.append(Step(run, enter, slice(start, start + entries), speed))

    add(partial(_convolve, network.conv_in), 1)
    for layer in layers:
        if isinstance(layer, WanResidualBlock):
            add(partial(_residual, layer), 2, partial(_enter, layer.norm1, layer.nonlinearity))
        elif isinstance(layer, WanAttentionBlock):
            add(partial(_attend, layer), 0)
        else:
            timed = hasattr(layer, "time_conv")
            faster = timed and layer.mode == "upsample3d"
            add(partial(_resample, layer), int(timed), speed=2 if faster else 1)
    head = network.norm_out, network.nonlinearity
    add(partial(_finish, *head, network.conv_out), 1, partial(_enter, *head))
    return steps


def _middle(network: nn.Module) -> Iterator[nn.Module]:
    block = network.mid_block
    yield block.resnets[0]
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        yield attention
        yield resnet


def _keep(x: Tensor, cache: Cache) -> None:
    if x.shape[2] < PAST and cache[0] is not None:
        x = torch.cat((cache[0].to(x.device), x), 2)
    cache[0] = x[:, :, -PAST:].clone()


def _convolve(layer: nn.Module, x: Tensor, cache: Cache) -> Tensor:
    past = cache[0]
    _keep(x, cache)
    return layer(x, past)


def _enter(norm: nn.Module, activation: nn.Module, x: Tensor, cache: Cache) -> None:
    if vae_fused.usable(x):
        vae_fused.enter(norm, x, cache)
    else:
        _keep(activation(norm(x)), cache)


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
