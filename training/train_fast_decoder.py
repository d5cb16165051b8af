"""Trains a small decoder of TAEHV's layout for the narrow VAE's latents.

    python -m training.train_fast_decoder --corpus training/.state/corpus --out training/.state --seconds 200

It sees latents of drawn clips, with noise in most of them so that it also learns to pass over a transformer's small
errors, and is held to the pixels that were drawn. It is the pack's own network, narrower, on whole clips at once.
Writes fast_decoder.safetensors (float16, published names) and fast_decoder.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.parts.wan.fast_decoder import FastDecoder, TinyDecoder, limited
from avatar.engines.parts.wan.geometry import TEMPORAL_STRIDE
from avatar.loaders.files import load_state_dict

from . import corpus, loop
from .figures.clips import SIZE, ClipSource, Drawers
from .train_vae import FRAMES, LEAD, WIDTHS, Pool, reconstruction_loss
from .vae import VAE

CHANNELS = (48, 32, 16, 8)
NOISE = 0.4
# What a step sees: frames, side of the square, number of squares.
KINDS = ((13, 96, 16), (25, 96, 8), (13, 256, 2))


def build() -> TinyDecoder:
    """Fresh weights: grown frames begin as copies, and the picture as grey."""
    model = TinyDecoder(CHANNELS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            elif parameter.shape[-1] > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                if name.endswith("conv.4.weight"):
                    parameter *= 0.1  # a block begins as its shortcut, nearly
            else:
                width = parameter.shape[1]
                parameter.copy_(torch.eye(width).repeat(len(parameter) // width, 1)[..., None, None])
        *_, last = model.decoder.values()
        last.weight.mul_(0.1)
        last.bias.fill_(0.5)
    return model


def decode(model: TinyDecoder, latents: Tensor) -> Tensor:
    """Pixels [B, 3, 1 + 4 (f - 1), H, W] of whole clips of normalised latents [B, 16, f, h, w]."""
    frames, _ = model(limited(latents).movedim(2, 0), [None] * FastDecoder.slots)
    return frames[TEMPORAL_STRIDE - 1 :].movedim(0, 2) * 2 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--vae", type=Path, default=Path("training/.state/vae.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("training/.state"))
    parser.add_argument("--resume", type=Path, default=Path("training/.state/fast_decoder.safetensors"))
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--pool", type=int, default=120, help="clips kept on the device")
    parser.add_argument("--chunk", type=int, default=4, help="clips drawn at once, every --renew steps")
    parser.add_argument("--renew", type=int, default=12)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--workers", type=int, default=loop.cores(), help="processes that draw")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = loop.Clock(args.seconds)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    teacher = VAE(*WIDTHS)
    teacher.load_state_dict({name: value.float() for name, value in load_state_dict(args.vae).items()})
    teacher.to(device).eval().requires_grad_(False)
    model = build().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    step = first = loop.resume(args.resume, model)
    drawers = Drawers(args.workers)
    source = ClipSource(corpus.load(args.corpus), args.seed + step, device, drawers)
    pool = Pool(source, args.size, args.pool, args.chunk)
    print(f"fast decoder: pool of {args.pool} clips after {clock.elapsed:.0f}s", flush=True)
    average = loop.Average(model, 0.998)
    while clock.progress < 1:
        loop.set_rate(optimizer, loop.learning_rate(args.rate, step - first, clock.progress))
        if step % args.renew == 0:
            pool.renew()
        video, weight = pool.draw(*KINDS[step % len(KINDS)])
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                latents = teacher.encode(video).float()
                level = NOISE * torch.rand(len(latents), 1, 1, 1, 1, device=device)
                latents += level * torch.randn_like(latents)
            made = decode(model, latents).float()
        loss = reconstruction_loss(made, video, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step - first)
        if step % 200 == 0:
            print(f"fast decoder {step} {clock.elapsed:.0f}s loss {loss.item():.4f}", flush=True)
        step += 1
    average.copy_to(model)
    loop.save(args.out / "fast_decoder.safetensors", model, step)
    pool.close()
    held_out = ClipSource(corpus.load(args.corpus, held_out=True), 77, device, drawers)
    report(model.eval(), teacher, held_out, args.size, args.out / "fast_decoder.jpg")
    drawers.close()


@torch.no_grad()
def report(model: TinyDecoder, teacher: VAE, source: ClipSource, size: int, path: Path) -> None:
    """Print how near 8 clips come to what the full decoder and the drawing show. The picture has frames 0, 48, 96 and
    the widest mouth of each: as drawn, by the full decoder, by the small one."""
    clip = source.draw(8, FRAMES - LEAD, lead=LEAD)
    readers = clip.drawers.readers(clip.people, size)
    rows, near, drawn, full, read, real = [], [], [], [], [], clip.opening()
    for i, one in enumerate(clip.pixels(size).split(1)):
        latents = teacher.encode(one)
        theirs, mine = teacher.decode(latents).clamp(-1, 1), decode(model, latents).clamp(-1, 1)
        near.append(((mine - theirs) / 2).square().mean())
        drawn.append(((mine - one) / 2).square().mean())
        full.append(((theirs - one) / 2).square().mean())
        read.append(readers[i].mouth(mine[0].transpose(0, 1))[:, 0])
        places = [0, FRAMES // 2, FRAMES - 1, int(real[i].argmax())]
        rows.append(torch.cat([video[0].transpose(0, 1)[places] for video in (one, theirs, mine)]))
    match = torch.corrcoef(torch.stack([torch.cat(read), real.flatten()]))[0, 1]
    decibels = [round(-10 * torch.stack(errors).mean().log10().item(), 2) for errors in (near, drawn, full)]
    print(
        f"fast decoder held-out PSNR against the full decoder {decibels[0]} dB, against the drawing {decibels[1]} "
        f"(full decoder {decibels[2]}); openings correlate {match:.3f}"
    )
    loop.sheet(path, rows)


if __name__ == "__main__":
    main()
