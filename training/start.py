"""A linear start for the VAE, fitted to drawn clips, from which training only has to add the non-linear rest.

The residual blocks begin as nothing, so what is left of the VAE is a chain of convolutions. Going down, each halving
takes the principal components of what it halves (in time: averages, and the components of differences). Going up,
each layer is the least-squares fit to what the encoder had at that size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vae import LATENT_CHANNELS, VAE, Down, Residual, Up

RIDGE = 1e-4


def components(samples: Tensor, count: int, softness: float = 0.3) -> tuple[Tensor, Tensor]:
    """The `count` main directions [count, C] of samples [N, C], and offsets; variance v becomes v^(1 - 2 softness)."""
    mean = samples.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(samples.T).double())
    pick = values.argsort(descending=True)[:count]
    directions = (vectors[:, pick] / values[pick].clamp(min=1e-7) ** softness).T.float()
    return directions, -directions @ mean


def windows(x: Tensor, taps: int, side: int) -> list[Tensor]:
    """What a causal convolution sees, clip by clip: [C * taps * side * side + 1, positions], a row of ones last."""
    frames, seen = x.shape[2], []
    for one in F.pad(x, (0, 0, 0, 0, taps - 1, 0)).split(1):
        stacked = (
            torch.stack([one[0, :, i : i + frames] for i in range(taps)], 1).flatten(0, 1).transpose(0, 1)
        )
        rows = F.unfold(stacked, side, padding=side // 2).transpose(0, 1).flatten(1)
        seen.append(torch.cat([rows, torch.ones_like(rows[:1])]))
    return seen


@torch.no_grad()
def fit(layer: nn.Module, x: Tensor, target: Tensor, rows: slice = slice(None)) -> None:
    """Give `layer` (a convolution of stride 1) the least-squares weights from `x` to `target`, both [B, C, F, H, W];
    what it has no channels for is left out."""
    target = target[:, : len(layer.weight[rows])]
    taps = layer.kernel_size[0] if isinstance(layer, nn.Conv3d) else 1
    side, inner = layer.kernel_size[-1], layer.in_channels
    gram, mixed = 0.0, 0.0
    for seen, wanted in zip(windows(x[:, :inner], taps, side), target, strict=True):
        gram = gram + (seen @ seen.T).double()
        mixed = mixed + (seen @ wanted.flatten(1).T).double()
    scale = RIDGE * gram.diagonal().mean()
    solved = torch.linalg.solve(gram + scale * torch.eye(len(gram), device=gram.device), mixed).T.float()
    count = target.shape[1]
    layer.weight[rows][:count] = solved[:, :-1].reshape(count, *layer.weight.shape[1:])
    layer.bias[rows][:count] = solved[:, -1]


@torch.no_grad()
def linear_start(model: VAE, video: Tensor) -> None:
    """Set the convolutions of a fresh `model` from clips [B, 3, 1 + 4k, H, W]."""
    _clear(model)
    encoder, decoder, halved = model.encoder, model.decoder, []
    for i in range(3):
        encoder.conv1.weight[i] = 0
        encoder.conv1.weight[i, i, -1, 1, 1] = 1
    x, real = encoder.conv1(video), 3
    for layer in encoder.downsamples:
        if isinstance(layer, Down):
            before, real, between = x[:, :real], *_fit_down(layer, x[:, :real], len(halved) == 2)
            halved.append((before, between))
        x = layer(x)
    directions, offsets = components(_samples(x[:, :real]), LATENT_CHANNELS, 0.5)
    latents = torch.einsum("oc,bcfhw->bofhw", directions, x[:, :real]) + offsets.view(-1, 1, 1, 1)
    fit(encoder.head[2], encoder.head[:2](x), latents)

    fit(decoder.conv1, latents, x[:, :real])
    y = decoder.conv1(latents)
    for layer in decoder.upsamples:
        if isinstance(layer, Up):
            before, between = halved.pop()
            if hasattr(layer, "time_conv"):
                half, pairs = layer.time_conv.out_channels // 2, between[:, :, 1:].unflatten(2, (-1, 2))
                for i in range(2):
                    fit(layer.time_conv, y[:, :, 1:], pairs[:, :, :, i], slice(i * half, (i + 1) * half))
            y = layer.in_time(y)
            room = layer.resample[1].out_channels - 1
            target = before if halved else _with_constant(before[:, :room])
            fit(layer.resample[1], y.repeat_interleave(2, 3).repeat_interleave(2, 4), target)
            y = layer.in_space(y)
        else:
            y = layer(y)
    fit(decoder.head[2], decoder.head[:2](y), video)


def _clear(model: VAE) -> None:
    """Residual blocks and attention that add nothing, shortcuts that copy, small weights elsewhere."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.bias.zero_()
        if isinstance(module, Down | Up):
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d | nn.Conv3d):
                    layer.weight.mul_(0.1)
        if isinstance(module, Residual):
            module.residual[6].weight.zero_()
            if hasattr(module, "shortcut"):
                _identity(module.shortcut.weight)
    for side in (model.encoder, model.decoder):
        side.middle[1].proj.weight.zero_()
        side.head[0].gamma.fill_(0.3)  # where SiLU is nearly a parabola
    for layer, scale in ((model.conv1, 1), (model.conv2, -1)):
        _identity(layer.weight)
        raw = model.std.flatten() ** scale
        layer.weight[:LATENT_CHANNELS, :LATENT_CHANNELS] *= raw.view(-1, 1, 1, 1, 1)
        layer.bias[:LATENT_CHANNELS] = model.mean.flatten() * (1 if scale > 0 else -raw)


def _identity(weight: Tensor) -> None:
    weight.zero_()
    for i in range(min(weight.shape[:2])):
        weight[i, i] = 1


def _samples(x: Tensor, limit: int = 200_000) -> Tensor:
    """Some of the positions of [B, C, F, H, W], as rows."""
    rows = x.movedim(1, -1).flatten(0, -2)
    return rows[:: max(1, len(rows) // limit)]


def _with_constant(x: Tensor) -> Tensor:
    """A channel more, constant and long: with it, the norm in front of a head hardly changes the others."""
    length = 2 * x.square().sum(1).mean().sqrt()
    return torch.cat([x, torch.full_like(x[:, :1], length.item())], 1)


def _fit_down(layer: Down, x: Tensor, last: bool) -> tuple[int, Tensor]:
    """Principal components over 2 x 2 pixels, then over pairs of frames; the number of channels in use, and the
    features between the two. `last`: one channel is made constant, for the norm of the head."""
    convolution, real = layer.resample[1], x.shape[1]
    corners = torch.cat([x[..., a::2, b::2] for a in range(2) for b in range(2)], 1)
    count = min(4 * real, convolution.out_channels - last)
    directions, offsets = components(_samples(corners), count)
    convolution.weight[:, :real] = 0
    for i in range(4):
        convolution.weight[:count, :real, i // 2, i % 2] = directions[:, i * real : (i + 1) * real]
    convolution.bias[:count] = offsets
    if last:
        found = torch.einsum("oc,bcfhw->bofhw", directions, corners) + offsets.view(-1, 1, 1, 1)
        convolution.weight[count] = 0
        convolution.bias[count] = 2 * found.square().sum(1).mean().sqrt()
    between = layer.in_space(x)[:, : count + last]
    if hasattr(layer, "time_conv"):
        weight, kept = layer.time_conv.weight, count * 3 // 4
        weight.zero_()
        for i in (*range(kept), *range(count, count + last)):
            weight[i, i, 1:] = 0.5
        change = _samples(between[:, :count, 2::2] - between[:, :count, 1::2])
        directions, offsets = components(change, count - kept)
        weight[kept:count, :count, 2, 0, 0], weight[kept:count, :count, 1, 0, 0] = directions, -directions
        layer.time_conv.bias[kept:count] = offsets
    return count + last, between
