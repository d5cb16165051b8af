"""Trains the narrow VAE on drawn clips.

    python -m training.train_vae --corpus training/.state/corpus --out training/.state --seconds 500

Loss: L1 on the pixels' brightness, red-blue and green-magenta (the weak axes scaled up), on their differences in
space at three scales, on their changes in time and on coarse areas, heavier around mouth and eyes. Training sees
squares out of a pool of drawn clips, half of them around a mouth. Latents get noise in training, so that the decoder
forgives small errors of the transformer, and a pull to unit spread.
Writes vae.safetensors (float16, original key names) and vae.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import corpus, loop
from .figures.clips import SIZE, Ahead, Clip, ClipSource, Drawers
from .start import linear_start
from .vae import VAE

WIDTHS = (12, 8)  # of encoder and decoder; the small decoder makes the pictures that people see
LATENT_NOISE, LATENT_PULL = 0.15, 1e-2
FRAMES = 97  # a clip of the pool; beyond what it has seen in training, a VAE fades
LEAD = 5
# What a step sees: frames, side of the square, number of squares (as many pixels each time).
KINDS = ((13, 96, 12), (25, 96, 6), (13, 256, 2), (97, 96, 2))
MOUTH = 8.0
# Brightness, red-blue, green-magenta: drawn pictures vary in them by 0.39, 0.19 and 0.06.
OPPONENT = ((0.33, 0.33, 0.33), (0.75, 0.0, -0.75), (-1.0, 2.0, -1.0))


def reconstruction_loss(made: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of colours, edges and changes over time; [B, 3, F, H, W], weight [B, 1, 1, H, W]."""
    error = torch.einsum("oc,bcfhw->bofhw", torch.tensor(OPPONENT, device=made.device), made - real)
    weight = weight / weight.mean()
    loss = (error.abs() * weight).mean() + 0.5 * error.diff(dim=2).abs().mul(weight).mean()
    for _ in range(3):
        loss = loss + 0.5 * (error.diff(dim=-1).abs() * weight[..., 1:]).mean()
        loss = loss + 0.5 * (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
        error, weight = F.avg_pool3d(error, (1, 2, 2)), F.avg_pool3d(weight, (1, 2, 2))
    return loss + 2 * (error.abs() * weight).mean()


class Pool:
    """Drawn clips on the device, as bytes; `renew` replaces the oldest."""

    def __init__(self, source: ClipSource, size: int, count: int, chunk: int) -> None:
        device = source.device
        self.source, self.size, self.chunk, self.next = source, size, chunk, 0
        self.video = torch.zeros(count, 3, FRAMES, size, size, dtype=torch.uint8, device=device)
        self.weight = torch.zeros(count, 1, 1, size, size, device=device)
        self.mouth = torch.zeros(count, 2)
        depth = 1 + source.drawers.count // chunk
        self.ahead = Ahead(self._clip, lambda clip: clip.bytes(size), depth)
        for _ in range(0, count, chunk):
            self.renew()

    @torch.no_grad()
    def renew(self) -> None:
        """Put in `chunk` clips that were drawn meanwhile, and have the next ones drawn."""
        clip, video = self.ahead.next()
        place = slice(self.next, self.next + self.chunk)
        self.video[place] = video.to(self.video.device)
        self.weight[place] = clip.face_weight(self.size, MOUTH)
        self.mouth[place] = clip.mouths(self.size)
        self.next = (self.next + self.chunk) % len(self.video)

    def close(self) -> None:
        """Wait for what is being drawn; nothing more is."""
        self.ahead.close()

    def _clip(self) -> Clip:
        """`chunk` clips; a quarter of them with mouths much wider open than speech has them."""
        clip = self.source.draw(self.chunk, FRAMES - LEAD, lead=LEAD)
        return clip.wider(1 + 1.2 * (self.source.rng.random(self.chunk) < 0.25))

    def draw(self, frames: int, window: int, count: int) -> tuple[Tensor, Tensor]:
        """Squares [count, 3, frames, window, window] in [-1, 1] and their loss weights."""
        pick = torch.randint(len(self.video), (count,))
        room = self.size - window
        anywhere = torch.rand(count, 2) * room
        near = self.mouth[pick] - window / 2 + (torch.rand(count, 2) - 0.5) * window / 2
        corner = torch.where(torch.rand(count, 1) < 0.5, near, anywhere).clamp(0, room).long().tolist()
        first = torch.randint(FRAMES - frames + 1, (count,)).tolist()
        video, weight = [], []
        for i, (x, y), t in zip(pick.tolist(), corner, first, strict=True):
            video.append(self.video[i, :, t : t + frames, y : y + window, x : x + window])
            weight.append(self.weight[i, ..., y : y + window, x : x + window])
        return torch.stack(video).float() / 127.5 - 1, torch.stack(weight)


@torch.no_grad()
def statistics(model: VAE, source: ClipSource, size: int, batches: int, count: int) -> tuple[Tensor, Tensor]:
    """Mean and spread [16] of the normalised latents."""
    values = [model.encode(source.draw(count, 20, lead=5).pixels(size)).float() for _ in range(batches)]
    flat = torch.cat(values).transpose(0, 1).flatten(1)
    spread = flat.std(1)
    return flat.mean(1), spread.clamp(min=0.5 * spread.median())  # an unused channel stays small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--out", type=Path, default=Path("training/.state"))
    parser.add_argument("--resume", type=Path, default=Path("training/.state/vae.safetensors"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--pool", type=int, default=240, help="clips kept on the device")
    parser.add_argument("--chunk", type=int, default=4, help="clips drawn at once, every --renew steps")
    parser.add_argument("--renew", type=int, default=12)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--workers", type=int, default=loop.cores(), help="processes that draw")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    clock, peers = loop.Clock(args.seconds), loop.Peers()
    device, kind = peers.device, torch.device(peers.device).type
    torch.backends.cudnn.benchmark = True
    model = VAE(*WIDTHS).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    step = first = loop.resume(args.resume, model)
    seed = args.seed + step + 7919 * peers.rank
    torch.manual_seed(seed)
    recordings = corpus.load(args.corpus)
    drawers = Drawers(args.workers)
    pool = Pool(ClipSource(recordings, seed, device, drawers), args.size, args.pool, args.chunk)
    print(f"vae: pool of {args.pool} clips after {clock.elapsed:.0f}s", flush=True)
    if not step:
        linear_start(model, pool.draw(13, 96, 24)[0])
        print(f"vae: linear start after {clock.elapsed:.0f}s", flush=True)
    peers.same(model)

    def losses(video: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(kind, torch.bfloat16):
            latents = model.encode(video)
            spread = latents.detach().float().std(dim=(0, 2, 3, 4), keepdim=True)
            noisy = latents + LATENT_NOISE * spread * torch.randn_like(latents)
            made = model.decode(noisy).float()
        loss = reconstruction_loss(made, video, weight)
        return loss + LATENT_PULL * (latents.float().square().mean() - 1).square(), latents

    average = loop.Average(model, 0.999)
    begin = progress = clock.progress
    while progress < 1:
        rate = loop.learning_rate(args.rate, step - first, (progress - begin) / (1 - begin))
        loop.set_rate(optimizer, rate)
        if step % args.renew == 0:
            pool.renew()
        loss, latents = losses(*pool.draw(*KINDS[step % len(KINDS)]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        progress = peers.share(model, clock.progress)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 200 == 0:
            spread = latents.float().std().item()
            print(f"vae {step} {clock.elapsed:.0f}s loss {loss.item():.4f} latents {spread:.2f}", flush=True)
        step += 1
    average.copy_to(model)
    model.eval()
    pool.close()
    if peers.rank == 0:
        held_out = ClipSource(corpus.load(args.corpus, held_out=True), 77, device, drawers)
        model.fold_statistics(*statistics(model, held_out, args.size, 4, 12))
        loop.save(args.out / "vae.safetensors", model, step)
        report(model, held_out, args.size, args.out / "vae.jpg")
    drawers.close()
    peers.close()


@torch.no_grad()
def report(model: VAE, source: ClipSource, size: int, path: Path) -> None:
    """Print how well 8 clips come back. The picture has frames 0, 48, 96 and the widest mouth of each: as drawn,
    decoded, and decoded with noise."""
    clip = source.draw(8, FRAMES - LEAD, lead=LEAD)
    video = clip.pixels(size)
    readers = clip.drawers.readers(clip.people, size)
    rows, real, made, errors = [], clip.opening(), [], []
    for i, one in enumerate(video.split(1)):
        latents = model.encode(one)
        back = model.decode(latents).clamp(-1, 1)
        noisy = model.decode(latents + LATENT_NOISE * torch.randn_like(latents))
        errors.append(((back - one) / 2).square().mean((0, 1, 3, 4)))
        made.append(readers[i].mouth(back[0].transpose(0, 1))[:, 0])
        wide = int(real[i].argmax())
        rows.append(
            torch.cat([v[0].transpose(0, 1)[[0, FRAMES // 2, FRAMES - 1, wide]] for v in (one, back, noisy)])
        )
    error, real, made = torch.stack(errors).mean(0), real.flatten(), torch.cat(made)
    opened = real > 0.5
    match = torch.corrcoef(torch.stack([made, real]))[0, 1]
    axes = torch.tensor(OPPONENT, device=video.device)
    seen = torch.stack([row[[2, 6]] for row in rows]).transpose(0, 1)  # frame 96: drawn, decoded
    tone = torch.einsum("oc,sbchw->sobhw", axes, seen.float()).flatten(2)
    colour = [round(torch.corrcoef(tone[:, o])[0, 1].item(), 3) for o in range(3)]
    ratio = (-10 * error.log10())[[0, FRAMES // 2, FRAMES - 1]].tolist()
    print(
        f"vae held-out PSNR at frames 0, 48, 96: {ratio} dB; openings correlate {match:.3f}; "
        f"{real[opened].mean():.2f} read as {made[opened].mean():.2f}; colour axes {colour}"
    )
    loop.sheet(path, rows)


if __name__ == "__main__":
    main()
