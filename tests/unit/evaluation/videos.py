"""Videos with a mouth that is known, for tests of what measures them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from avatar.engines.parts.face.boxes import Box
from avatar.evaluation.clip import Clip, open_stream
from avatar.evaluation.faces import Regions, regions_of
from avatar.media.frames import AvatarStream
from torch import Tensor

FPS, RATE, SIDE = 25, 16_000, 64
FACE = Box(8, 8, 56, 56)
MOUTH = Box(22, 40, 42, 56)


def syllables(seconds: float, seed: int) -> Tensor:
    """How loud a voice is in each frame [F], 0 to 1: bursts of random lengths with pauses."""
    draw = np.random.default_rng(seed)
    level: list[float] = []
    while len(level) < seconds * FPS:
        length = int(draw.integers(2, 7))
        level += list(np.hanning(length + 2)[1:-1] * draw.uniform(0.4, 1)) + [0.0] * int(draw.integers(1, 5))
    return torch.tensor(level[: round(seconds * FPS)], dtype=torch.float32)


def voice(level: Tensor, fps: float = FPS) -> dict:
    """AUDIO of a buzz with this loudness in each frame."""
    samples = round(len(level) / fps * RATE)
    time = torch.arange(samples) / RATE
    envelope = level[(time * fps).long().clamp(max=len(level) - 1)]
    buzz = torch.sin(2 * torch.pi * 150 * time) + 0.5 * torch.sin(2 * torch.pi * 450 * time)
    return {"waveform": (0.4 * envelope * buzz)[None, None], "sample_rate": RATE}


def faces(opening: Tensor, shift: Sequence[int] = (), brightness: float = 180.0) -> Tensor:
    """Frames [F, 64, 64, 3] of a textured face whose dark mouth is as high as `opening` [F] says, 0 to 1."""
    noise = np.random.default_rng(3).integers(-30, 30, (SIDE // 4, SIDE // 4, 3)).repeat(4, 0).repeat(4, 1)
    frames = np.tile((brightness + noise)[None], (len(opening), 1, 1, 1))
    for frame, height in zip(frames, (opening * 10).tolist(), strict=True):
        half = round(height) / 2
        frame[round(48 - half) : round(48 + half), 24:40] = 20
    for index, step in enumerate(shift):
        frames[index] = np.roll(frames[index], step, 1)
    return torch.from_numpy(frames.clip(0, 255).astype(np.uint8))


def clip_of(frames: Tensor, audio: dict | None = None, fps: float = FPS, block: int = 12) -> Clip:
    """Frames in memory as a clip."""
    stream = AvatarStream(
        lambda: iter(frames.split(block)),
        frames=len(frames),
        width=frames.shape[2],
        height=frames.shape[1],
        fps=fps,
        audio=audio,
    )
    return open_stream(stream)


def regions() -> Regions:
    return regions_of(FACE, "the test", mouth=MOUTH)


def write_video(
    path: Path, frames: Tensor, audio: dict | None = None, times: Sequence[int] | None = None
) -> Path:
    """An mp4 of these frames; `times` are in frames of 1/25 s."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        sound = file.add_stream("flac", rate=RATE, layout="mono") if audio else None
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")
            picture.pts = times[number] if times else number
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if sound is not None:
            whole = (audio["waveform"][0] * 32767).round().to(torch.int16).numpy()
            samples = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            samples.pts = 0
            samples.sample_rate = RATE
            file.mux(sound.encode(samples))
            file.mux(sound.encode())
    return path
