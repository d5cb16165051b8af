"""A small decoder in place of the VAE's own: the decoder of TAEHV (github.com/madebyollin/taehv) for Wan 2.1's latents.

Ordinary 2-D convolutions on single frames; time comes in where a block also sees the features that it had for the
frame before, and where one frame grows into two. Published files are taew2_1 (MIT) and lighttaew2_1 (Apache-2.0).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...gpu.replica import replica
from .geometry import TEMPORAL_STRIDE
from .streaming import StreamingDecoder

if TYPE_CHECKING:
    from .vae import WanVAE

CHANNELS = 16
WIDTHS = (256, 128, 64, 64)
"""Channels of the published decoder: at the latents' size, twice, four and eight times as large."""
GROWTH = (1, 2, 2)
"""Frames that come out of one at the end of each stage."""
MEMORIES = 3
"""Blocks with a memory in each stage."""
LIMIT = 3.0
"""Latents are bent softly into [-LIMIT, LIMIT]."""


class TinyDecoder(nn.Module):
    """The network, with the published parameter names (``decoder.N...``); ``widths`` as `WIDTHS`."""

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.widths = widths
        # The numbers are places in the published list, which counts layers without weights too.
        layers: dict[str, nn.Module] = {"1": nn.Conv2d(CHANNELS, widths[0], 3, padding=1)}
        place = 3
        for growth, (inner, outer) in zip(GROWTH, pairwise(widths), strict=True):
            layers |= {str(place + i): _Memory(inner) for i in range(MEMORIES)}
            layers[str(place + MEMORIES + 1)] = _Growth(inner, growth)
            layers[str(place + MEMORIES + 2)] = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
            place += MEMORIES + 3
        layers[str(place + 1)] = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.decoder = nn.ModuleDict(layers)

    def forward(self, latents: Tensor, before: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """Decode the next f latents of B videos; a video that begins has None in ``before``.

        Args:
            latents: soft-limited latents [f, B, 16, h, w].
            before: features of the last frame of each block with a memory [B, C, ...].

        Returns:
            Pixels of about 0 to 1 [4 f, B, 3, 8 h, 8 w], and the features for the next call.
        """
        videos, after = latents.shape[1], []
        x = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        first, *layers, last = self.decoder.values()
        x = F.relu(first(x))
        for layer in layers:
            if isinstance(layer, _Memory):
                after.append(x[-videos:])
                x = layer(x, before[len(after) - 1], videos)
            elif isinstance(layer, _Growth):
                x = layer(x, videos)
            else:
                x = layer(x)
        return last(F.relu(x)).unflatten(0, (-1, videos)), after


class FastDecoder:
    """Decodes normalised latents like `WanVAE`, whose decoder it stands in for; it cannot encode.

    Device and dtype follow the network's parameters at the time of each call, so a host may move it between calls.

    Args:
        name: of the file that it was read from, for people.
        vae: tells raw from normalised latents, for a decoder that was trained on raw ones (lighttaew2_1). None for
            one of normalised latents (taew2_1).
    """

    channels, slots = CHANNELS, len(GROWTH) * MEMORIES

    def __init__(self, network: TinyDecoder, name: str, vae: WanVAE | None = None) -> None:
        self.network, self.name, self._vae = network, name, vae

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    def decode(self, latents: Tensor) -> Tensor:
        """As `WanVAE.decode`."""
        return self.stream()(latents)

    def stream(self) -> StreamingDecoder:
        """As `WanVAE.stream`."""
        from .vae_layers import lay_out_for_gpu

        lay_out_for_gpu(self.network)
        return StreamingDecoder(self)

    def on(self, device: torch.device) -> FastDecoder:
        """As `WanVAE.on`."""
        from .vae_layers import lay_out_for_gpu

        lay_out_for_gpu(self.network)
        return replica(self, self.device, device, self.network)

    def decode_next(
        self, latent: Tensor, past: list[Tensor | None], done: int
    ) -> tuple[Tensor, list[Tensor]]:
        """As `WanVAE.decode_next`."""
        latent = latent.to(self.device, torch.float32)
        if self._vae is not None:
            latent = self._vae.denormalise(latent)
        latent = limited(latent).to(self.dtype).movedim(2, 0)
        # What is kept has the axes of a video [B, C, 1, H, W], as in the VAE's own decoder.
        pixels, past = self.network(latent, [entry if entry is None else entry[:, :, 0] for entry in past])
        if done == 0:
            pixels = pixels[TEMPORAL_STRIDE - 1 :]  # a video's first latent stands for a single frame
        return pixels.movedim(0, 2).float() * 2 - 1, [entry[:, :, None] for entry in past]

    def prime_next(self, latent: Tensor, past: list[Tensor | None], done: int, left: int) -> list[Tensor]:
        """As `WanVAE.prime_next`."""
        return self.decode_next(latent, past, done)[1]

    @property
    def _weight(self) -> Tensor:
        return self.network.decoder["1"].weight


def limited(latents: Tensor) -> Tensor:
    """Latents as the network takes them: bent softly into [-3, 3]."""
    return torch.tanh(latents / LIMIT) * LIMIT


class _Memory(nn.Module):
    """Residual convolutions that see a frame's features and those of the frame before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, before: Tensor | None, videos: int) -> Tensor:
        """``x`` [frames * videos, C, H, W], frame by frame; ``before`` [videos, C, H, W], zeros if None."""
        earlier = torch.zeros_like(x[:videos]) if before is None else before
        if len(x) > videos:
            earlier = torch.cat((earlier, x[:-videos]))
        return F.relu(self.conv(torch.cat((x, earlier), 1)) + x)


class _Growth(nn.Module):
    """Twice the size in space, and one or two frames out of each."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels, frames * channels, 1, bias=False)

    def forward(self, x: Tensor, videos: int) -> Tensor:
        # The published network enlarges first: the same values, for four times the work.
        x = self.conv(x)
        if self.frames > 1:
            x = x.unflatten(0, (-1, videos)).unflatten(2, (self.frames, -1)).transpose(1, 2).flatten(0, 2)
        return F.interpolate(x.contiguous(memory_format=torch.channels_last), scale_factor=2.0)
