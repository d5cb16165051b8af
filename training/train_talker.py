"""Trains the tiny S2V transformer by flow matching under the conditions of the streaming sampler.

    python -m training.train_talker --corpus training/.state/corpus --out training/.state --seconds 500

All blocks of a clip have one noise level (uniform, then shifted by 3, as in the sampler), see each other through
the block-causal window, and hear the speech block by block. The loss counts more around the mouth and the eyes.
Writes talker.safetensors (resumed when present) and talker.jpg.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from . import corpus, loop
from .evaluate import Exam
from .figures.clips import SIZE, ClipSource, Drawers
from .parallel import flow, schedule
from .pool import MOODS, Encoder, condition_of, feature_tracks
from .talker import build
from .texts import encode
from .train_vae import WIDTHS
from .vae import VAE
from .wav2vec import MouthReader

SHIFT = 3.0


def noise_levels(count: int, device: str) -> torch.Tensor:
    """Sigmas [count]: three quarters anywhere in 0..1 with shift 3, one quarter the sampler's first three."""
    u = torch.rand(count, device=device)
    anywhere = SHIFT * u / (1 + (SHIFT - 1) * u)
    exact = schedule(4)[:3].to(device)[torch.randint(3, (count,), device=device)]
    return torch.where(torch.rand(count, device=device) < 0.25, exact, anywhere)


def parts(args: argparse.Namespace, device: str, held_out: bool, seed: int, drawers: Drawers) -> Encoder:
    """The frozen VAE and speech encoder of `args.parts` over the training or the held-out recordings."""
    vae, reader = VAE(*WIDTHS).to(device).eval(), MouthReader().to(device).eval()
    for path, model in ((args.parts / "vae.safetensors", vae), (args.parts / "wav2vec.safetensors", reader)):
        if not loop.resume(path, model):
            raise FileNotFoundError(f"{path} is missing: train it first.")
    recordings = corpus.load(args.corpus, held_out)
    tracks = feature_tracks(reader, recordings, device)
    return Encoder(vae, tracks, ClipSource(recordings, seed, device, drawers), args.size, args.chunk)


def arguments(description: str, seconds: float, rate: float) -> argparse.ArgumentParser:
    """The options that training and distillation share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--parts", type=Path, default=Path("training/.state"), help="vae and wav2vec")
    parser.add_argument("--out", type=Path, default=Path("training/.state"))
    parser.add_argument("--resume", type=Path, default=Path("training/.state/talker.safetensors"))
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pool", type=int, default=400, help="clips kept on the device")
    parser.add_argument("--chunk", type=int, default=8, help="clips drawn at once")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], 500, 1.5e-3)
    parser.add_argument("--refresh", type=int, default=12, help="draw new clips every so many steps")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    clock = loop.Clock(args.seconds)
    model = build().to(device)
    step = first = loop.resume(args.resume, model)
    torch.manual_seed(args.seed + step)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    average = loop.Average(model, 0.998)
    texts, drawers = encode(device, MOODS), Drawers(args.workers)
    encoder = parts(args, device, False, args.seed + step, drawers)
    clips = encoder.draw(args.pool)
    print(f"talker: pool of {args.pool} clips after {clock.elapsed:.0f}s", flush=True)
    begin = clock.progress
    while clock.progress < 1:
        if (step - first) % args.refresh == args.refresh - 1:
            clips.store(torch.randperm(args.pool, device=device)[: args.chunk], encoder.draw(args.chunk))
        progress = (clock.progress - begin) / (1 - begin)
        loop.set_rate(optimizer, loop.learning_rate(args.rate, step - first, progress, 100))
        batch = clips.take(torch.randint(args.pool, (args.batch,), device=device))
        clean, sigma = batch.clean.float(), noise_levels(args.batch, device)
        noise = torch.randn_like(clean)
        mix = sigma.view(-1, 1, 1, 1, 1)
        with torch.autocast(device, torch.bfloat16):
            made = flow(model, (1 - mix) * clean + mix * noise, sigma, condition_of(batch, texts))
        error = (made.float() - (noise - clean)).square()
        loss = (error * batch.weight).mean() / batch.weight.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 100 == 0:
            print(
                f"talker {step} {clock.elapsed:.0f}s loss {loss.item():.4f} plain {error.mean().item():.4f}",
                flush=True,
            )
        step += 1
    average.copy_to(model)
    loop.save(args.out / "talker.safetensors", model, step)
    Exam(parts(args, device, True, 99, drawers), texts).report(model, args.out / "talker.jpg", (4, 32))
    drawers.close()


if __name__ == "__main__":
    main()
