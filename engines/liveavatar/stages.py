"""One video on several devices: each does some denoising steps of one block while the others do theirs of the next.

The steps of a video can be shared because caches are kept per step (LiveAvatar, section 3.3). A stage is a sampler of
its own steps in a thread of its own. The last one decodes as well, unless the decoder has a device to itself, or blocks
are decoded on several devices in turn.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor

from ..gpu.chain import Chain, Link, Stop, on
from ..gpu.lanes import Crossing, arrive
from ..gpu.turns import Turn, Turns
from ..parts.kv.cache import CacheFormat
from ..parts.planning.performance import RESIDENT, Performance
from ..parts.wan.streaming import LatentDecoder, StreamingDecoder
from .condition import PRIME_LATENTS
from .config import SamplingConfig
from .decoding import decode_block, lane_beside
from .fallback import Fallback
from .pipeline import Scene, block_count
from .relay import Relay
from .sampler import BlockSampler, set_conditions
from .speech_source import nothing
from .state import GenerationState
from .transformer import S2VTransformer

AHEAD = 1
"""Blocks that are under way besides one for each stage, so that none waits for the consumer."""
WAKE_SECONDS = 0.05
"""How often a thread that waits for another one asks whether it is still wanted."""

_first_use = threading.Lock()
"""Kernels are compiled and tried by one thread at a time."""
_met: set[tuple[Any, ...]] = set()
"""The kinds of computation that each device has begun once in this process."""


@dataclass(frozen=True)
class Stage:
    """Consecutive denoising steps, and the device that does them: that of ``model``."""

    model: S2VTransformer
    steps: range
    device: torch.device


@dataclass(frozen=True)
class Job:
    """A block on its way through the stages.

    Attributes:
        features: of its speech, on the CPU [speakers, layers, dim, 12].
        mood: its prompt.
        latents: after the steps so far [1, 16, 3, h, w]; None before the first one.
        mark: when they arrive; see `arrive`.
    """

    block: int
    features: Tensor
    mood: str
    latents: Tensor | None = None
    mark: Any = None


class _Sink:
    """The first generated latent frame, which the last stage makes and all others need for the second clip."""

    def __init__(self) -> None:
        self._latent: Tensor | None = None
        self._there = threading.Event()

    def share(self, sampler: BlockSampler) -> None:
        """Keep the one that ``sampler`` has made, or give it the one that another one has made."""
        if self._latent is None and sampler.first_latent is not None:
            self._latent = sampler.first_latent
            self._there.set()
        elif self._latent is not None and sampler.first_latent is None:
            sampler.first_latent = self._latent.to(sampler.device)

    def wait(self, stop: Stop) -> None:
        while not self._there.wait(WAKE_SECONDS):
            stop.check()


class _Denoising:
    """The work of a stage: its steps of one block after the other."""

    def __init__(
        self, sampler: BlockSampler, scene: Scene, attempt: Fallback, sink: _Sink, turn: Turn
    ) -> None:
        self._sampler, self._scene, self._attempt, self._sink = sampler, scene, attempt, sink
        self._turn = turn

    def __call__(self, job: Job) -> Job:
        sampler, scene = self._sampler, self._scene
        # To ask for a graph takes little Python but waits for its latents, and nobody else should wait for that.
        with nullcontext() if sampler.replays_next(job.mood) else self._turn.taken(job.block):
            self._sink.share(sampler)
            masks = scene.masks_of(job.block, len(sampler.rows), len(sampler.columns))
            steps = self._attempt.each(
                sampler.denoise, job.features, scene.pose_of(job.block), masks, job.latents, job.mood
            )
            for latents in steps:  # noqa: B007 - the last ones count
                pass
            self._sink.share(sampler)
        return replace(job, latents=latents)


class _Decoding:
    """The last work on a block: its answer waits for the frames."""

    def __init__(self, decoder: StreamingDecoder, attempt: Fallback, turn: Turn) -> None:
        self._decoder, self._attempt, self._turn = decoder, attempt, turn

    def __call__(self, job: Job) -> Callable[[], Tensor]:
        with self._turn.taken(job.block):
            return self._attempt(decode_block, self._decoder, job.block, job.latents)


@dataclass
class _Place:
    """The works that a device does on a block, and the way of its latents to the next one.

    Attributes:
        unmet: blocks that may still bring kernels which the device has not met; every length of the window has its own.
    """

    device: torch.device
    works: Sequence[Callable[[Any], Any]]
    after: Crossing | None
    unmet: int

    def __call__(self, job: Job) -> Any:
        with _first_use if self.unmet > 0 else nullcontext():
            result = self._done(job)
        self.unmet -= 1
        return result

    def _done(self, job: Job) -> Any:
        if job.latents is not None:
            arrive(job.latents, job.mark)
        for work in self.works:
            job = work(job)
        if self.after is not None:
            latents, mark = self.after.send(job.latents)
            job = replace(job, latents=latents, mark=mark)
        return job


def generate_in_stages(
    stages: Sequence[Stage],
    vaes: Sequence[LatentDecoder],
    scene: Scene,
    config: SamplingConfig,
    frames: int | None,
    check_interrupt: Callable[[], None] = nothing,
    after_encoding: Callable[[], None] = nothing,
    state: GenerationState | None = None,
    performance: Performance = RESIDENT,
    say: Callable[[str], None] = logging.warning,
) -> Iterator[Tensor]:
    """As `pipeline.generate`, on several devices: the same frames, as far as the devices compute the same.

    One block for each device and one more are under way. Live speech enters as soon as it is there. Speech is read and
    ``after_encoding`` is called in a thread of its own; ``check_interrupt`` and ``say`` are called in all of them. When
    the memory of a device runs out, only its own caches move.

    Args:
        stages: in the order of their steps, which are together all of the video's.
        vaes: one on the device of the last stage, which then decodes as well, or on one of its own; or several of the
            same weights, one on that device and others on those of other stages, which decode in turn.
    """
    if [step for stage in stages for step in stage.steps] != list(range(config.forwards)):
        raise ValueError(f"The stages have to share {config.forwards} steps, each one once and in order.")
    stop, sink = Stop(), _Sink()

    def check() -> None:
        stop.check()
        check_interrupt()

    scenes = [scene.on(stage.device) for stage in stages]
    turns = Turns()
    own = [Turn(turns, stage.device) for stage in stages]
    samplers = [
        _sampler(stage, there, config, check, performance, turn.pause, say)
        for stage, there, turn in zip(stages, scenes, own, strict=True)
    ]
    with on(stages[0].device):
        set_conditions(samplers, scenes[0].reference, scenes[0].motion)
    vae = vaes[0]
    decoder = vae.stream()
    with on(vae.device):
        decoder.prime(scene.motion.to(vae.device)[:, :, :PRIME_LATENTS])
    first = 0 if state is None else state.attach(samplers, decoder)
    for sampler in samplers:
        sink.share(sampler)

    smaller = CacheFormat.INT8 if performance.fp8 else CacheFormat.MODEL
    joined = len(vaes) == 1 and vae.device == stages[-1].device
    places = []
    for sampler, there, turn in zip(samplers, scenes, own, strict=True):
        shows = joined and sampler is samplers[-1]
        attempt = Fallback(sampler, decoder if shows else None, smaller, say)
        works: list[Callable[[Any], Any]] = [_Denoising(sampler, there, attempt, sink, turn)]
        if shows:
            works.append(_Decoding(decoder, attempt, turn))
        places.append((sampler.device, works))
    if not joined:
        alone = Fallback(None, decoder, smaller, say)
        if len(vaes) > 1:
            relay = Relay(decoder, vaes, alone, turns, say)
            places.append((stages[-1].device, [lambda job: relay(job.block, job.latents, job.mark)]))
        else:
            places.append((vae.device, [_Decoding(decoder, alone, Turn(turns, vae.device))]))
    links = _links(
        places, (performance.fp8, performance.caches, scene.reference.shape), config.clip_blocks + 1
    )
    jobs = _jobs(scene, config, first, frames, after_encoding, sink, stop, vae.device)
    chain = Chain(jobs, links, len(links) + AHEAD, stop)
    if state is not None:
        state.at_rest = False
    try:
        for wait in chain.results():
            block = wait()
            chain.finished()
            if state is not None:
                state.at_rest = chain.resting
            yield block
            if state is not None:
                if state.at_rest:
                    state.at_rest = state.settling = False
                    chain.go_on()
                elif state.settling:
                    chain.hold()
    finally:
        chain.close()
        if state is not None:
            state.at_rest = True


def _sampler(
    stage: Stage,
    scene: Scene,
    config: SamplingConfig,
    check: Callable[[], None],
    performance: Performance,
    pause: Callable[[], None],
    say: Callable[[str], None],
) -> BlockSampler:
    with on(stage.device):
        return BlockSampler(
            stage.model,
            config,
            context=scene.context,
            reference=scene.reference,
            motion=scene.motion,
            moods=scene.moods,
            check_interrupt=check,
            performance=performance,
            steps=stage.steps,
            pause=pause,
            prefilled=False,
            say=say,
        )


def _links(
    places: Sequence[tuple[torch.device, Sequence[Callable[[Any], Any]]]], kind: tuple[Any, ...], blocks: int
) -> list[Link]:
    """Links with ways between them; the first ``blocks`` of a ``kind`` that is new to a GPU are done one at a time."""
    devices = [device for device, _ in places]
    ways = [Crossing(a, b) for a, b in pairwise(devices)]
    links = []
    for (device, works), after in zip(places, [*ways, None], strict=True):
        unmet = 0 if device.type != "cuda" or (device, *kind) in _met else blocks
        links.append(Link(device, _Place(device, works, after, unmet)))
    _met.update((device, *kind) for device in devices)
    return links


def _jobs(
    scene: Scene,
    config: SamplingConfig,
    first: int,
    frames: int | None,
    after_encoding: Callable[[], None],
    sink: _Sink,
    stop: Stop,
    device: torch.device,
) -> Generator[Job, None, None]:
    """The blocks with their speech, which may be encoded on ``device``, beside what it has been told to compute."""
    blocks = count(first) if frames is None else range(first, block_count(frames))
    # All of this runs in the thread of the chain's source, so the lane stays that thread's between two blocks.
    with lane_beside(device).working(), closing(scene.speech.blocks(first, after_encoding)) as speech:
        for block, features in zip(blocks, speech, strict=False):
            if config.replace_sink and block >= config.clip_blocks:
                sink.wait(stop)
            yield Job(block, features.cpu(), scene.mood_of(block))
