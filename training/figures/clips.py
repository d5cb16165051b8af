"""Batches of speaking people with their speech, drawn from a seed on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Generic, TypeVar

import numpy as np
import torch

from ..corpus import RATE, Recording
from ..motion import FPS, frames_of
from .figure import Figure
from .measure import Reader
from .motion import MOODS, talking
from .person import Person, boxes, person
from .pose import Motion, still

SIZE = 256
"""Pixels of the talker's pictures."""

Drawn = TypeVar("Drawn")


def draw(who: Person, motion: Motion, size: int) -> np.ndarray:
    """Pictures uint8 [T, size, size, 3]; what a worker does."""
    return Figure(who, size).frames(motion)


class Drawers:
    """Processes that draw, one person's clip each; with none of them the calling process draws."""

    def __init__(self, count: int) -> None:
        context, threads = get_context("spawn"), (1,)
        self.count = count
        self._pool = ProcessPoolExecutor(count, context, torch.set_num_threads, threads) if count else None

    def __call__(self, people: list[Person], motions: list[Motion], size: int) -> torch.Tensor:
        """Pixels uint8 [B, 3, T, size, size]."""
        made = np.stack(list(self._map(draw, people, motions, [size] * len(people))))
        return torch.from_numpy(made).permute(0, 4, 1, 2, 3)

    def readers(self, people: list[Person], size: int, count: int = 500) -> list[Reader]:
        """A reader for each person, made of `count` drawings."""
        return list(self._map(Reader, people, [size] * len(people), [count] * len(people)))

    @property
    def _map(self):
        return self._pool.map if self._pool else map

    def close(self) -> None:
        """End the processes."""
        if self._pool:
            self._pool.shutdown()


@dataclass(frozen=True)
class Clip:
    """A batch of speaking people. `start` is the second of the recording that belongs to frame `lead`; `mood` names
    the expression, `person.style` how each is drawn: what a text can say."""

    people: list[Person]
    motions: list[Motion]
    moods: list[str]
    recording: list[int]
    start: list[float]
    from_rest: torch.Tensor
    drawers: Drawers
    device: torch.device | str

    def pixels(self, size: int) -> torch.Tensor:
        """[B, 3, T, size, size] in [-1, 1]."""
        return self.shown(self.bytes(size))

    def at_rest(self, size: int, frames: int = 1) -> torch.Tensor:
        """The reference pictures, shown for `frames` frames: [B, 3, frames, size, size]."""
        return self.shown(self.rest_bytes(size)).expand(-1, -1, frames, -1, -1)

    def opening(self) -> torch.Tensor:
        """What the mouths do: [B, T]."""
        return torch.from_numpy(np.stack([motion["open"] for motion in self.motions])).float()

    def face_weight(self, size: int, mouth: float, cell: int = 1) -> torch.Tensor:
        """Loss weights [B, 1, 1, size / cell, size / cell]: `mouth` around mouth and eyes, else 1."""
        line = (torch.arange(size // cell) + 0.5) * cell / size
        weights = torch.ones(len(self.people), 1, 1, len(line), len(line))
        for weight, who in zip(weights, self.people, strict=True):
            for part in ("mouth", "eyes"):
                left, top, right, bottom = boxes(who)[part]
                across, down = (line > left) & (line < right), (line > top) & (line < bottom)
                weight[..., down[:, None] & across[None]] = mouth
        return weights.to(self.device)

    def wider(self, factors: np.ndarray) -> Clip:
        """The same with mouths opened so many times as far [B]."""
        pairs = zip(self.motions, factors, strict=True)
        return replace(self, motions=[m | {"open": np.clip(m["open"] * f, 0, 1)} for m, f in pairs])

    def mouths(self, size: int) -> torch.Tensor:
        """The mouths' middles at rest, pixels [B, 2]."""
        edges = torch.tensor([boxes(who)["mouth"] for who in self.people])
        return (edges[:, :2] + edges[:, 2:]) / 2 * size

    def bytes(self, size: int) -> torch.Tensor:
        """The pixels as they are drawn: uint8 [B, 3, T, size, size], on the CPU."""
        return self.drawers(self.people, self.motions, size)

    def rest_bytes(self, size: int) -> torch.Tensor:
        """The reference pictures as they are drawn: uint8 [B, 3, 1, size, size], on the CPU."""
        return self.drawers(self.people, [still(1)] * len(self.people), size)

    def shown(self, drawn: torch.Tensor) -> torch.Tensor:
        """Drawn pixels in [-1, 1], on the device."""
        return drawn.to(self.device).float() / 127.5 - 1


class Ahead(Generic[Drawn]):
    """Batches of clips whose pixels are drawn before they are asked for, as many at a time as keep the drawers busy.

    `draw` gives the next clip, `pixels` what is drawn of it; batches come in the order of `draw`.
    """

    def __init__(self, draw: Callable[[], Clip], pixels: Callable[[Clip], Drawn], depth: int) -> None:
        self._draw, self._pixels = draw, pixels
        self._threads = ThreadPoolExecutor(depth)
        self._coming: deque = deque()
        self._depth = depth

    def next(self) -> tuple[Clip, Drawn]:
        """The next clip and its pixels."""
        while len(self._coming) <= self._depth:
            clip = self._draw()
            self._coming.append((clip, self._threads.submit(self._pixels, clip)))
        clip, drawn = self._coming.popleft()
        return clip, drawn.result()

    def close(self) -> None:
        """Wait for what is being drawn; nothing more is."""
        self._threads.shutdown(cancel_futures=True)


class ClipSource:
    """Endless clips: `draw(count, frames)` gives the next batch; the same seed gives the same sequence."""

    def __init__(
        self,
        recordings: list[Recording],
        seed: int,
        device: torch.device | str = "cpu",
        drawers: Drawers | None = None,
    ) -> None:
        self.recordings = recordings
        self.tracks = [torch.from_numpy(recording.track) for recording in recordings]
        self.rng = np.random.default_rng(seed)
        self.device, self.drawers = device, drawers or Drawers(0)

    def draw(self, count: int, frames: int, lead: int = 0, rest: float = 0.5) -> Clip:
        """`count` clips of `lead` + `frames` frames. With probability `rest` a clip is still for `lead` frames and
        starts from there; else it shows the middle of a speech."""
        rng = self.rng
        people, motions, moods, picks, starts, resting = [], [], [], [], [], []
        for _ in range(count):
            pick = int(rng.integers(len(self.recordings)))
            seconds = len(self.recordings[pick].samples) / RATE
            start = round(float(rng.random()) * max(seconds - frames / FPS, 0) * FPS) / FPS
            from_rest, mood = bool(rng.random() < rest), str(rng.choice(list(MOODS)))
            mouth = frames_of(self.tracks[pick], start - lead / FPS, lead + frames).numpy()
            people.append(person(int(rng.integers(2**31))))
            motions.append(talking(mouth, rng, mood, lead if from_rest else None))
            moods.append(mood)
            picks.append(pick)
            starts.append(start)
            resting.append(from_rest)
        return Clip(people, motions, moods, picks, starts, torch.tensor(resting), self.drawers, self.device)
