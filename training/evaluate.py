"""Quick measures during training: clips of held-out voices and faces, sampled, decoded and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import torch
from avatar.evaluation.correlation import lagged_correlation
from torch import Tensor

from . import loop
from .measure import openings
from .parallel import Condition, sample, schedule
from .pool import FRAMES, LEAD, STILL, Encoder, condition_of


class Exam:
    """A fixed set of held-out clips that start at rest."""

    def __init__(self, encoder: Encoder, text_dim: int, count: int = 8) -> None:
        self.encoder = encoder
        self.clip = encoder.source.draw(count, FRAMES, LEAD, rest=1.0)
        self.clips = encoder.encode(self.clip)
        given = condition_of(self.clips, text_dim)
        self.given = replace(given, sink=torch.full_like(given.sink, 30))
        device = encoder.source.device
        shape = self.clips.clean.shape
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(device)

    @torch.no_grad()
    def run(self, model, steps: int, given: Condition | None = None) -> Tensor:
        """Sampled latents of all clips."""
        with torch.autocast(self.noise.device.type, torch.bfloat16):
            return sample(model, self.noise, given or self.given, schedule(steps))[-1]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, 60, S, S] after the still portrait that primes the decoder."""
        latents = torch.cat([self.clips.rest.float(), latents.float()], 2)
        return torch.cat([self.encoder.vae.decode(z[None]) for z in latents])[:, :, STILL:].clamp(-1, 1)

    def score(self, video: Tensor) -> tuple[float, float]:
        """Mean correlation of the mouth in the pixels with the speech's target, and mean best lag in frames."""
        results = []
        for i in range(len(video)):
            who = {name: value[i : i + 1] for name, value in self.clip.identity.items()}
            read = openings(video[i].transpose(0, 1), who)
            results.append(lagged_correlation(read, self.clip.motion["open"][i, LEAD:]))
        scores = torch.tensor(results)
        return scores[:, 0].mean().item(), scores[:, 1].mean().item()

    def report(self, model, path: Path, steps: tuple[int, ...]) -> None:
        """Print the scores for each number of steps and with the speech of another clip; write a contact sheet."""
        clean = self.decode(self.clips.clean)
        print(f"exam clean latents: lip sync {self.score(clean)}", flush=True)
        rows = [clean]
        for count in steps:
            latents = self.run(model, count)
            error = (latents - self.clips.clean).float().square().mean().item()
            video = self.decode(latents)
            rows.append(video)
            print(f"exam {count} steps: latent error {error:.4f}, lip sync {self.score(video)}", flush=True)
        other = replace(self.given, features=self.given.features.roll(1, 0))
        print(
            f"exam other speech: lip sync {self.score(self.decode(self.run(model, steps[0], other)))}",
            flush=True,
        )
        frames = torch.linspace(2, FRAMES - 2, 10).long()
        loop.sheet(path, [row[i][:, frames].transpose(0, 1) for i in range(4) for row in rows])
