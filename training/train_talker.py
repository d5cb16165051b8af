"""Trains the tiny S2V transformer by flow matching under the conditions of the streaming sampler.

    python -m training.train_talker --corpus training/.state/corpus --out training/.state --seconds 500
    torchrun --nproc-per-node 2 -m training.train_talker ...        # on two GPUs, `--batch` clips each

All blocks of a clip have one noise level (uniform, then shifted by 3, as in the sampler), see each other through
the block-causal window, which is of 2 blocks as often as of 4, and hear the speech block by block. The loss counts
more around the mouth and the eyes.
Writes talker.safetensors (resumed when present; every two minutes too, so that a run that is cut off loses no more)
and talker.jpg.
"""

from __future__ import annotations

import argparse
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
WINDOWS = (2, 4)
KEPT = 120
"""Seconds between two savings."""


def noise_levels(count: int, device: str) -> torch.Tensor:
    """Sigmas [count]: three quarters anywhere in 0..1 with shift 3, one quarter the sampler's own in 3 and 4 steps."""
    u = torch.rand(count, device=device)
    anywhere = SHIFT * u / (1 + (SHIFT - 1) * u)
    own = torch.cat([schedule(4)[:3], schedule(3)[1:2]]).to(device)
    exact = own[torch.randint(len(own), (count,), device=device)]
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
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--pool", type=int, default=400, help="clips kept on the device")
    parser.add_argument("--chunk", type=int, default=8, help="clips drawn at once")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--workers", type=int, default=loop.cores(), help="processes that draw")
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], 500, 1.5e-3)
    parser.add_argument("--refresh", type=int, default=4, help="draw new clips every so many steps")
    args = parser.parse_args()
    clock, peers = loop.Clock(args.seconds), loop.Peers()
    device = peers.device
    model = build().to(device)
    step = first = loop.resume(args.resume, model)
    peers.same(model)
    seed = args.seed + step + 7919 * peers.rank
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=device != "cpu"
    )
    average = loop.Average(model, 0.998)
    texts, drawers = encode(device, MOODS), Drawers(args.workers)
    encoder = parts(args, device, False, seed, drawers)
    clips = encoder.draw(args.pool)
    print(f"talker: pool of {args.pool} clips after {clock.elapsed:.0f}s", flush=True)
    begin = progress = clock.progress
    saved = clock.elapsed
    while progress < 1:
        if (step - first) % args.refresh == args.refresh - 1:
            clips.store(torch.randperm(args.pool, device=device)[: args.chunk], encoder.draw(args.chunk))
        rate = loop.learning_rate(args.rate, step - first, (progress - begin) / (1 - begin), 100)
        loop.set_rate(optimizer, rate)
        batch = clips.take(torch.randint(args.pool, (args.batch,), device=device))
        clean, sigma = batch.clean.float(), noise_levels(args.batch, device)
        noise = torch.randn_like(clean)
        mix = sigma.view(-1, 1, 1, 1, 1)
        noisy, given = (1 - mix) * clean + mix * noise, condition_of(batch, texts)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            made = flow(model, noisy, sigma, given, WINDOWS[step % len(WINDOWS)])
        error = (made.float() - (noise - clean)).square()
        loss = (error * batch.weight).mean() / batch.weight.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        progress = peers.share(model, clock.progress)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 100 == 0:
            print(
                f"talker {step} {clock.elapsed:.0f}s loss {loss.item():.4f} plain {error.mean().item():.4f}",
                flush=True,
            )
        step += 1
        if peers.rank == 0 and clock.elapsed - saved > KEPT:
            loop.save(args.out / "talker.safetensors", average.of(model), step)
            saved = clock.elapsed
    average.copy_to(model)
    encoder.close()
    if peers.rank == 0:
        loop.save(args.out / "talker.safetensors", model, step)
        exam = Exam(parts(args, device, True, 99, drawers), texts)
        exam.report(model, args.out / "talker.jpg", (4, 32))
    drawers.close()
    peers.close()


if __name__ == "__main__":
    main()
