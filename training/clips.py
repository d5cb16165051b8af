"""Batches of talking portraits with their speech, drawn on the fly from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import faces
from .corpus import RATE, Recording
from .draw import mouth_box, render
from .motion import FPS, Motion, frames_of, still, talking


@dataclass(frozen=True)
class Clip:
    """A batch of talking portraits. `start` is the second of the recording that belongs to frame `lead`."""

    identity: faces.Identity
    motion: Motion
    recording: list[int]
    start: list[float]
    from_rest: torch.Tensor

    def pixels(self, size: int) -> torch.Tensor:
        """[B, 3, T, size, size] in [-1, 1]."""
        return render(self.identity, self.motion, size).transpose(1, 2)

    def at_rest(self, size: int, frames: int = 1) -> torch.Tensor:
        """The reference pictures, shown for `frames` frames: [B, 3, frames, size, size]."""
        picture = render(self.identity, still(len(self.start), 1, self.motion["open"].device), size)
        return picture.transpose(1, 2).expand(-1, -1, frames, -1, -1)

    def face_weight(self, size: int, mouth: float, cell: int = 1) -> torch.Tensor:
        """Loss weights [B, 1, 1, size / cell, size / cell]: `mouth` around the mouth, half at the eyes, else 1."""
        line = (torch.arange(size // cell, device=self.motion["open"].device) + 0.5) * cell
        x, y = line[None, None, :], line[None, :, None]
        left, top, right, bottom = (edge[:, None, None] for edge in mouth_box(self.identity, size).unbind(1))
        inside = ((x > left) & (x < right) & (y > top) & (y < bottom)).float()
        scale = (self.identity["scale"] * size)[:, None, None]
        middle = (self.identity["x"] + 0.5)[:, None, None] * size
        height = ((self.identity["y"] + 0.5) * size)[:, None, None] + (self.identity["eye_y"])[
            :, None, None
        ] * scale
        eyes = (((x - middle).abs() < 0.65 * scale) & ((y - height).abs() < 0.35 * scale)).float()
        return (1 + (mouth - 1) * torch.maximum(inside, 0.5 * eyes))[:, None, None]


class ClipSource:
    """Endless clips: `draw(count, frames)` gives the next batch; the same seed gives the same sequence."""

    def __init__(self, recordings: list[Recording], seed: int, device: torch.device | str = "cpu") -> None:
        self.recordings = recordings
        self.tracks = [torch.from_numpy(recording.track) for recording in recordings]
        self.generator = torch.Generator().manual_seed(seed)
        self.device = device

    def draw(self, count: int, frames: int, lead: int = 0, rest: float = 0.5) -> Clip:
        """`count` clips of `lead` + `frames` frames. With probability `rest` a clip is still for `lead` frames and
        starts from there; else it shows the middle of a speech."""
        pick = torch.randint(len(self.recordings), (count,), generator=self.generator).tolist()
        chance = torch.rand(count, generator=self.generator)
        from_rest = torch.rand(count, generator=self.generator) < rest
        starts, mouths = [], []
        for index, fraction in zip(pick, chance.tolist(), strict=True):
            seconds = len(self.recordings[index].samples) / RATE
            start = round(fraction * max(seconds - frames / FPS, 0) * FPS) / FPS
            starts.append(start)
            mouths.append(frames_of(self.tracks[index], start - lead / FPS, lead + frames))
        identity = faces.sample(count, self.generator, self.device)
        mouth = torch.stack(mouths).to(self.device)
        return Clip(identity, talking(mouth, self.generator, from_rest, lead), pick, starts, from_rest)
