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
from .parallel import Condition, sample, schedule
from .pool import FRAMES, LEAD, STILL, Encoder, condition_of
from .texts import Texts


class Exam:
    """A fixed set of held-out clips that start at rest."""

    def __init__(self, encoder: Encoder, texts: Texts, count: int = 8) -> None:
        self.encoder = encoder
        self.clip = encoder.source.draw(count, FRAMES, LEAD, rest=1.0)
        self.clips = encoder.encode(self.clip)
        self.readers = self.clip.drawers.readers(self.clip.people, encoder.size)
        given = condition_of(self.clips, texts)
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

    def score(self, video: Tensor) -> dict[str, float]:
        """Means over the clips: correlation of the mouth in the pixels with the speech's target, its best lag in
        frames, correlation of smiles with the moods over the clips, and sharpness in blinks as parts of that of open
        eyes, where an eye is seen to blink."""
        synced, smiles, blinks = [], [], []
        for one, reader, wanted in zip(video, self.readers, self.clip.opening(), strict=True):
            frames = one.transpose(0, 1)
            read = reader.mouth(frames)
            synced.append(lagged_correlation(read[:, 0], wanted[LEAD:]))
            smiles.append(read[:, 3].mean())
            shut = reader.blink(frames) > 0.4
            if shut.any() and not shut.all():
                sharp = reader.lid_sharpness(frames)
                blinks.append(sharp["blink"] / sharp["open"])
        meant = torch.tensor([motion["smile"][LEAD:].mean() for motion in self.clip.motions])
        mood = torch.corrcoef(torch.stack([torch.stack(smiles), meant.float()]))[0, 1]
        sync, lag = torch.tensor(synced).mean(0).tolist()
        sharp = sum(blinks) / len(blinks) if blinks else float("nan")
        return {"sync": sync, "lag": lag, "mood": mood.item(), "blinks": sharp}

    def report(self, model, path: Path, steps: tuple[int, ...]) -> None:
        """Print the scores for each number of steps and with the speech of another clip; write a contact sheet."""
        clean = self.decode(self.clips.clean)
        print(f"exam clean latents: {self.score(clean)}", flush=True)
        rows = [clean]
        for count in steps:
            latents = self.run(model, count)
            error = (latents - self.clips.clean).float().square().mean().item()
            video = self.decode(latents)
            rows.append(video)
            print(f"exam {count} steps: latent error {error:.4f}, {self.score(video)}", flush=True)
        other = replace(self.given, features=self.given.features.roll(1, 0))
        print(
            f"exam other speech: {self.score(self.decode(self.run(model, steps[0], other)))}",
            flush=True,
        )
        frames = torch.linspace(2, FRAMES - 2, 10).long()
        loop.sheet(path, [row[i][:, frames].transpose(0, 1) for i in range(4) for row in rows])
