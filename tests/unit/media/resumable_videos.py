"""Tiny videos that are stopped and gone on with, for tests of state, journal, snapshots and files."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.vae import WanVAE
from avatar.media.frames import AvatarStream, Resumable
from avatar.media.recording import Snapshots, begin, record
from avatar.media.writer import VideoWriter
from diffusers import AutoencoderKLWan

from tests.unit.tiny_s2v import HEIGHT, WIDTH, condition, model, track

W, H = 8 * WIDTH, 8 * HEIGHT
CONFIG = SamplingConfig(steps=2, frames_per_clip=24)
FRAMES = 9 + 4 * 12 + 5  # six blocks, the last one in part
RATE = 24_000
GIGABYTE = 10**9
AHEAD = Performance(ahead=True)


class Killed(BaseException):
    """Stands for whatever ends a run."""


@functools.lru_cache
def vae() -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=1, decoder_base_dim=1).eval().requires_grad_(False))


def passes(
    config: SamplingConfig = CONFIG,
    state: GenerationState | None = None,
    check=lambda: None,
    performance: Performance = RESIDENT,
) -> Iterator[torch.Tensor]:
    scene = Scene(**condition(), speech=Tracks([track(6)]))
    return generate(model(), vae(), scene, config, FRAMES, check, state=state, performance=performance)


@functools.lru_cache
def whole(config: SamplingConfig = CONFIG) -> torch.Tensor:
    """The frames of a run that nothing has disturbed."""
    return torch.cat(list(passes(config)))[:FRAMES]


def sound() -> dict:
    time = torch.arange(FRAMES * RATE // 25) / RATE
    return {
        "waveform": (0.5 * torch.sin(2 * torch.pi * 200 * time * (1 + time / 8)))[None, None],
        "sample_rate": RATE,
    }


def passes_with_state(state: GenerationState | None = None) -> Iterator[torch.Tensor]:
    return passes(state=state)


def stream(
    config: SamplingConfig = CONFIG, check=lambda: None, performance: Performance = RESIDENT
) -> AvatarStream:
    return AvatarStream(
        lambda state=None: passes(config, state, check, performance),
        frames=FRAMES,
        width=W,
        height=H,
        audio=sound(),
        resumable=Resumable(lambda: repr(config), GenerationState, {"seed": config.seed}),
    )


def generated(
    folder: Path,
    video: AvatarStream,
    limit: int = GIGABYTE,
    stop_after: int | None = None,
    say=logging.warning,
) -> tuple:
    """What the node does: a file that is begun or gone on with; ends with `Killed` behind ``stop_after`` frames.

    Returns the path, the frames that the pass has made in order (repeated ones too) and the snapshots.
    """
    made, clock = [], [0.0]
    options = {"width": W, "height": H, "audio": video.audio, "about": video.resumable.about}
    writer = begin(folder, "v", 1, video.resumable.fingerprint(), say, **options)
    path = writer.path
    try:
        with writer:
            snapshots = Snapshots(path, limit, clock=lambda: clock[0])
            with closing(record(video, writer, snapshots, say)) as blocks:
                for reached, block in blocks:
                    clock[0] += 10
                    made.append(block)
                    if stop_after and reached >= stop_after:
                        raise Killed
    except Killed:
        pass
    return path, torch.cat(made), snapshots


def whole_video(folder: Path) -> Path:
    """The file of a run that nothing has disturbed."""
    path = folder / "whole.mp4"
    with VideoWriter(path, width=W, height=H, audio=sound()) as writer:
        for block in torch.tensor_split(whole(), [*range(9, FRAMES, 12)]):
            writer.write(block)
    return path


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def heard(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def in_stages(state: GenerationState | None = None) -> Iterator[torch.Tensor]:
    scene = Scene(**condition(), speech=Tracks([track(6)]))
    stages = [Stage(model(), range(step, step + 1), torch.device("cpu")) for step in range(CONFIG.steps)]
    return generate_in_stages(stages, [vae()], scene, CONFIG, FRAMES, state=state)


FRAME = {"width": W, "height": H}


def grey(writer: VideoWriter, blocks: int = 1) -> None:
    for _ in range(blocks):
        writer.write(torch.full((3, H, W, 3), 128, dtype=torch.uint8))
