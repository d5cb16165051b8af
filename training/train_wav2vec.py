"""Trains the narrow wav2vec2 to read mouth shapes from synthetic speech.

    python -m training.train_wav2vec --corpus training/.state/corpus --out training/.state --seconds 500

Windows of 1 to 16 s, with noise, a random tone balance and leading silence added. Writes wav2vec.safetensors
(float16, with the two heads) and prints the correlation on held-out voices.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import corpus, loop
from .corpus import RATE, Recording
from .visemes import TRACK_RATE
from .wav2vec import MouthReader

HOP, FIELD = 320, 400


def targets(track: Tensor, frames: int) -> Tensor:
    """The track [T, 3] at the middle of each wav2vec2 frame: [frames, 3]."""
    middle = ((torch.arange(frames) * HOP + FIELD / 2) / RATE * TRACK_RATE).long()
    return track[middle.clamp(max=len(track) - 1)]


class Speech:
    """All recordings in a row on one device, with the mouth shape of each wav2vec2 frame."""

    def __init__(self, recordings: list[Recording], device: str) -> None:
        sounds, shapes = [], []
        for made in recordings:
            frames = len(made.samples) // HOP
            sounds.append(torch.from_numpy(made.samples[: frames * HOP]))
            shapes.append(targets(torch.from_numpy(made.track), frames))
        self.sound, self.shape = torch.cat(sounds).to(device), torch.cat(shapes).to(device)

    def draw(self, seconds: float, count: int) -> tuple[Tensor, Tensor]:
        """Windows of clean speech [count, S] and their mouth shapes [count, T, 3]; some begin with silence."""
        device, length = self.sound.device, int(seconds * RATE / HOP)
        first = torch.randint(len(self.shape) - length, (count, 1), device=device)
        lead = (torch.rand(count, 1, device=device) * 1.5 - 0.5).clamp(min=0) * min(seconds / 4, 1.0)
        index = torch.arange(length * HOP, device=device)
        sound = self.sound[first * HOP + index] * (index >= lead * RATE)
        frame = torch.arange((length * HOP - FIELD) // HOP + 1, device=device)
        loud = frame * HOP + FIELD / 2 >= lead * RATE
        return sound, self.shape[first + frame] * loud[..., None]


def as_heard(sound: Tensor) -> Tensor:
    """Speech [B, S] as microphones might hear it: another tone balance for each row, noise in most of them."""
    count, device = len(sound), sound.device
    tilt = torch.rand(count, 1, device=device) * 1.2 - 0.6
    sound = sound + tilt * F.pad(sound, (1, 0))[:, :-1]
    level = 10 ** (-1.2 - 2.3 * torch.rand(count, 1, device=device))
    level = level * (torch.rand(count, 1, device=device) < 0.7) * (sound.std(1, keepdim=True) + 1e-4)
    return sound + level * torch.randn_like(sound)


def normalize(sound: Tensor) -> Tensor:
    """Zero mean, unit variance per row, as the published feature extractor."""
    variance, mean = torch.var_mean(sound, -1, correction=0, keepdim=True)
    return (sound - mean) / (variance + 1e-7).sqrt()


@torch.no_grad()
def correlations(model: MouthReader, recordings: list[Recording], device: str) -> Tensor:
    """Correlation of read and true mouth shape over whole recordings, [3] for open, wide, teeth."""
    read, true = [], []
    for made in recordings:
        out = model(normalize(torch.from_numpy(made.samples)[None]).to(device))[1][0].float().cpu()
        read.append(out)
        true.append(targets(torch.from_numpy(made.track), len(out)))
    pairs = torch.stack([torch.cat(read), torch.cat(true)])
    return torch.stack([torch.corrcoef(pairs[:, :, i])[0, 1] for i in range(3)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--out", type=Path, default=Path("training/.state"))
    parser.add_argument("--resume", type=Path, default=Path("training/.state/wav2vec.safetensors"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--batch", type=float, default=400, help="seconds of speech per step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MouthReader().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step = loop.resume(args.resume, model)
    torch.manual_seed(args.seed + step)
    average = loop.Average(model, 0.999)
    speech = Speech(corpus.load(args.corpus), device)
    balance = torch.tensor([2.0, 1.0, 1.0], device=device)
    clock, first = loop.Clock(args.seconds), step
    while clock.progress < 1:
        loop.set_rate(optimizer, loop.learning_rate(args.rate, step - first, clock.progress, 300))
        seconds = (1.0, 2.0, 4.0, 8.0, 16.0)[step % 5]
        sound, shape = speech.draw(seconds, max(int(args.batch / seconds), 1))
        with torch.autocast(device, torch.bfloat16):
            middle, last = model(normalize(as_heard(sound)))
        error = F.smooth_l1_loss(last.float(), shape, beta=0.1, reduction="none")
        error = error + 0.3 * F.smooth_l1_loss(middle.float(), shape, beta=0.1, reduction="none")
        loss = (error * balance).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 200 == 0:
            print(f"wav2vec {step} {clock.elapsed:.0f}s loss {loss.item():.4f}", flush=True)
        step += 1
    average.copy_to(model)
    model.eval()
    loop.save(args.out / "wav2vec.safetensors", model, step)
    print(
        "wav2vec held-out correlation", correlations(model, corpus.load(args.corpus, True), device).tolist()
    )


if __name__ == "__main__":
    main()
