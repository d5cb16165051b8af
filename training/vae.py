"""A narrow Wan 2.1 VAE with the original parameter names, computed over whole clips at once for training.

The published code runs chunk by chunk with caches; all its layers are causal, so one pass over the whole clip
gives the same numbers. `fold_statistics` moves the latents' mean and spread to those the real model has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_CHANNELS = 16
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


def _rounded(weight: Tensor, bias: Tensor, inner: int) -> tuple[Tensor, Tensor]:
    """A convolution's weight for `inner` input channels and a multiple of 8 output channels; what is added is zero.

    GPU libraries have fast kernels for such counts only. The extra channels stay zero all the way.
    """
    more = -weight.shape[0] % 8
    return F.pad(weight, (0,) * 2 * (weight.dim() - 2) + (0, inner - weight.shape[1], 0, more)), F.pad(
        bias, (0, more)
    )


class Norm(nn.Module):
    """Unit root-mean-square over channels, times a gain; further channels of the input stay zero."""

    def __init__(self, channels: int, dims: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        real = len(self.gamma)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp(min=1e-12)
        gain = F.pad(self.gamma.flatten() * real**0.5, (0, x.shape[1] - real)).view(-1, *[1] * (x.dim() - 2))
        return x * length.reciprocal().to(x.dtype) * gain.to(x.dtype)


class Conv2d(nn.Conv2d):
    """A 2-D convolution that takes and gives rounded numbers of channels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *_rounded(self.weight, self.bias, x.shape[1]), self.stride, self.padding)


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees the past and the present only; same size in space.

    Computed as a 2-D convolution over the frames stacked with their predecessors: GPU libraries are several times
    faster at that than at 3-D convolutions of so few channels.
    """

    def __init__(self, inner: int, outer: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(inner, outer, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x: Tensor) -> Tensor:
        taps, frames = self.kernel_size[0], x.shape[2]
        x = F.pad(x, (0, 0, 0, 0, taps - 1, 0, 0, -x.shape[1] % 8))
        weight, bias = _rounded(self.weight, self.bias, x.shape[1])
        stacked = torch.cat([x[:, :, i : i + frames] for i in range(taps)], 1)
        weight = weight.transpose(1, 2).flatten(1, 2)
        y = _per_frame(lambda y: F.conv2d(y, weight, bias, padding=self.padding[1:]), stacked)
        return y[:, : self.out_channels] if self.out_channels < 8 else y


class Residual(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            Norm(inner),
            nn.SiLU(),
            CausalConv3d(inner, outer, (3, 3, 3)),
            Norm(outer),
            nn.SiLU(),
            nn.Identity(),
            CausalConv3d(outer, outer, (3, 3, 3)),
        )
        nn.init.zeros_(self.residual[6].weight)  # a block begins as its shortcut
        if inner != outer:
            self.shortcut = CausalConv3d(inner, outer, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def _per_frame(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    batch = x.shape[0]
    return layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)


class Middle(nn.Module):
    """Self-attention among the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + _per_frame(self._attend, x)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None].chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[-2:])
        return self.proj(y)


class Down(nn.Module):
    """Half the size in space, and in time for all but the first frame."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), Conv2d(channels, channels, 3, 2))
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), (2, 1, 1))

    def in_space(self, x: Tensor) -> Tensor:
        return _per_frame(self.resample, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_space(x)
        if not hasattr(self, "time_conv") or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], 2)


class Up(nn.Module):
    """Twice the size in space with half the channels, and in time for all but the first frame."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2), Conv2d(channels, channels // 2, 3, padding=1)
        )
        if temporal:
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))

    def in_time(self, x: Tensor) -> Tensor:
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            first, later = x[:, :, :1], self.time_conv(x[:, :, 1:])
            later = later.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
            x = torch.cat([first, later], 2)
        return x

    def in_space(self, x: Tensor) -> Tensor:
        return _per_frame(self.resample, x)

    def forward(self, x: Tensor) -> Tensor:
        return self.in_space(self.in_time(x))


def _head(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(Norm(inner), nn.SiLU(), CausalConv3d(inner, outer, (3, 3, 3)))


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels, channels), Middle(channels), Residual(channels, channels))


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        w, layers = [width, width, 2 * width, 4 * width, 4 * width], []
        for stage in range(4):
            layers += [Residual(w[stage], w[stage + 1]), Residual(w[stage + 1], w[stage + 1])]
            if stage < 3:
                layers.append(Down(w[stage + 1], temporal=stage > 0))
        self.conv1 = CausalConv3d(3, width, (3, 3, 3))
        self.downsamples = nn.Sequential(*layers)
        self.middle = _middle(4 * width)
        self.head = _head(4 * width, 2 * LATENT_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.downsamples(self.conv1(x))))


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers = []
        for stage, (inner, outer) in enumerate(((4, 4), (2, 4), (2, 2), (1, 1))):
            inner, outer = inner * width, outer * width
            layers += [Residual(inner, outer), Residual(outer, outer), Residual(outer, outer)]
            if stage < 3:
                layers.append(Up(outer, temporal=stage < 2))
        self.conv1 = CausalConv3d(LATENT_CHANNELS, 4 * width, (3, 3, 3))
        self.middle = _middle(4 * width)
        self.upsamples = nn.Sequential(*layers)
        self.head = _head(width, 3)

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.upsamples(self.middle(self.conv1(z))))


class VAE(nn.Module):
    """`encode` and `decode` speak normalised latents [B, 16, f, H/8, W/8], as the transformer does.

    Clips are [B, 3, 1 + 4k, H, W] in [-1, 1]. Widths: channels next to the pixels (96 in the published model).
    """

    def __init__(self, encoder_width: int, decoder_width: int) -> None:
        super().__init__()
        self.encoder = Encoder(encoder_width)
        self.conv1 = nn.Conv3d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.conv2 = nn.Conv3d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.decoder = Decoder(decoder_width)
        self.register_buffer("mean", torch.tensor(LATENT_MEAN).view(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(LATENT_STD).view(1, -1, 1, 1, 1), persistent=False)
        with torch.no_grad():  # start with unit normalised latents, which the real constants then cancel
            self.conv1.weight[:LATENT_CHANNELS] *= self.std[0, :, None]
            self.conv1.bias[:LATENT_CHANNELS] += self.mean.flatten()
            self.conv2.weight /= self.std.flatten()[None, :, None, None, None]

    def encode(self, video: Tensor) -> Tensor:
        video = video.contiguous(memory_format=torch.channels_last_3d)
        return (self.conv1(self.encoder(video))[:, :LATENT_CHANNELS] - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents.contiguous(memory_format=torch.channels_last_3d)
        return self.decoder(self.conv2(latents * self.std + self.mean))

    @torch.no_grad()
    def fold_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Make latents that have per-channel `mean` and `std` [16] come out with mean 0 and spread 1, exactly
        undone in the decoder."""
        shape = (-1, 1, 1, 1, 1)
        raw_mean, raw_std = self.mean.flatten(), self.std.flatten()
        centre = raw_mean + raw_std * mean  # raw -> (raw - centre) / std + raw_mean
        self.conv1.weight[:LATENT_CHANNELS] /= std.view(shape)
        self.conv1.bias[:LATENT_CHANNELS] = (self.conv1.bias[:LATENT_CHANNELS] - centre) / std + raw_mean
        flat = self.conv2.weight[:, :, 0, 0, 0]
        self.conv2.bias += flat @ (centre - std * raw_mean)
        self.conv2.weight *= std.view(1, -1, 1, 1, 1)
