"""Trains the narrow VAE on drawn clips.

    python -m training.train_vae --corpus training/.state/corpus --out training/.state --seconds 500

Loss: L1 on pixels, on their spatial differences at three scales, on their temporal differences and on the
colour of coarse areas, heavier around mouth and eyes. Latents get noise in training, so that the decoder forgives
small errors of the transformer, and a pull to unit spread.
Writes vae.safetensors (float16, original key names) and vae.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import corpus, loop
from .clips import Clip, ClipSource
from .draw import render
from .vae import VAE

ENCODER_WIDTH, DECODER_WIDTH = 8, 12
LATENT_NOISE, LATENT_PULL = 0.15, 1e-2
CHUNKS = (3, 6, 12, 24)  # clip lengths in turn, 13 to 97 frames: beyond what it has seen, a VAE fades


def reconstruction_loss(made: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of pixels, edges and changes over time; [B, 3, F, H, W], weight [B, 1, 1, H, W]."""
    error = made - real
    loss = (error.abs() * weight).mean() + 0.5 * error.diff(dim=2).abs().mul(weight).mean()
    for _ in range(3):
        loss = loss + 0.5 * (error.diff(dim=-1).abs() * weight[..., 1:]).mean()
        loss = loss + 0.5 * (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
        error, weight = F.avg_pool3d(error, (1, 2, 2)), F.avg_pool3d(weight, (1, 2, 2))
    return loss + 2 * error.abs().mean()


def draw_clip(source: ClipSource, count: int, size: int, chunks: int) -> tuple[Clip, Tensor]:
    """Clips of 1 + 4 * chunks frames; in half of them the portrait starts to move after five still frames."""
    clip = source.draw(count, 4 * chunks - 4, lead=5)
    return clip, clip.pixels(size)


def draw_crop(source: ClipSource, count: int, size: int, window: int, chunks: int) -> tuple[Tensor, Tensor]:
    """Squares of `window` pixels out of clips of 1 + 4 * chunks frames, and their loss weights."""
    clip = source.draw(count, 4 * chunks - 4, lead=5)
    corner = torch.randint(size - window + 1, (2, count), generator=source.generator)
    left, top = corner.to(source.device)
    video = render(clip.identity, clip.motion, size, (left, top, window)).transpose(1, 2)
    weight = clip.face_weight(size, 4.0)
    squares = [
        weight[i : i + 1, ..., y : y + window, x : x + window] for i, (x, y) in enumerate(corner.T.tolist())
    ]
    return video, torch.cat(squares)


@torch.no_grad()
def statistics(model: VAE, source: ClipSource, size: int, batches: int, count: int) -> tuple[Tensor, Tensor]:
    """Mean and spread [16] of the normalised latents."""
    values = [model.encode(draw_clip(source, count, size, 6)[1]).float() for _ in range(batches)]
    flat = torch.cat(values).transpose(0, 1).flatten(1)
    spread = flat.std(1)
    return flat.mean(1), spread.clamp(min=0.5 * spread.median())  # an unused channel stays small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--out", type=Path, default=Path("training/.state"))
    parser.add_argument("--resume", type=Path, default=Path("training/.state/vae.safetensors"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--window", type=int, default=96, help="training sees squares of this size")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    model = VAE(ENCODER_WIDTH, DECODER_WIDTH).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    step = loop.resume(args.resume, model)
    source = ClipSource(corpus.load(args.corpus), args.seed + step, device)

    def losses(video: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device, torch.bfloat16):
            latents = model.encode(video)
            spread = latents.detach().float().std(dim=(0, 2, 3, 4), keepdim=True)
            noisy = latents + LATENT_NOISE * spread * torch.randn_like(latents)
            made = model.decode(noisy).float()
        loss = reconstruction_loss(made, video, weight)
        return loss + LATENT_PULL * (latents.float().square().mean() - 1).square(), latents

    average = loop.Average(model, 0.999)
    clock, first = loop.Clock(args.seconds), step
    while clock.progress < 1:
        loop.set_rate(optimizer, loop.learning_rate(args.rate, step - first, clock.progress))
        chunks = CHUNKS[step % len(CHUNKS)]
        count = max(args.batch * CHUNKS[0] // chunks, 1)
        video, weight = draw_crop(source, count, args.size, args.window, chunks)
        loss, latents = losses(video, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 200 == 0:
            spread = latents.float().std().item()
            print(f"vae {step} {clock.elapsed:.0f}s loss {loss.item():.4f} latents {spread:.2f}", flush=True)
        step += 1
    average.copy_to(model)
    model.eval()
    held_out = ClipSource(corpus.load(args.corpus, held_out=True), 77, device)
    model.fold_statistics(*statistics(model, held_out, args.size, 4, args.batch))
    loop.save(args.out / "vae.safetensors", model, step)
    _, video = draw_clip(held_out, min(args.batch, 6), args.size, 24)
    with torch.no_grad():
        latents = model.encode(video)
        made = model.decode(latents).clamp(-1, 1)
        error = ((made - video) / 2).square().flatten(1).mean(1)
        noisy = model.decode(latents + LATENT_NOISE * torch.randn_like(latents))
    print(
        f"vae held-out PSNR {(-10 * error.log10()).mean():.2f} dB, latents {latents.mean():.3f} {latents.std():.3f}"
    )
    rows = [torch.cat([v[:, :, t].cpu() for t in (0, 48, 96)]) for v in (video, made, noisy)]
    loop.sheet(args.out / "vae.jpg", rows)


if __name__ == "__main__":
    main()
