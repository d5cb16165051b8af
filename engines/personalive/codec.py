"""The picture codec: Stable Diffusion's KL autoencoder, and a light decoder as an option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from .config import LATENT_SCALE

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny


class Codec(Protocol):
    """A VAE for the pipeline; latents are those of the UNet (scaled).

    The codecs below also have ``decoder``, the decoding network, which a faster version of it may replace.
    """

    name: str

    def encode(self, pixels: Tensor) -> Tensor:
        """Mean latents ``[n, 4, H/8, W/8]`` of pictures ``[n, 3, H, W]`` in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures ``[n, 3, H, W]`` in [0, 1] of latents ``[n, 4, h, w]``."""


class KLCodec:
    """``AutoencoderKL`` with the model's own constant scale."""

    def __init__(self, vae: AutoencoderKL):
        self.vae = vae
        self.name = "full VAE"
        self.use_network()

    @property
    def network(self) -> nn.Module:
        """The module behind `decoder`."""
        return self.vae.decoder

    def use_network(self) -> None:
        """Decode with the network itself."""
        self.decoder = self._decode

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]

    def encode(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mean.float() * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self.decoder((latents / LATENT_SCALE).to(self.vae.dtype).contiguous())
        return (pixels.float() / 2 + 0.5).clamp(0, 1)


class TinyCodec:
    """``AutoencoderTiny`` (TAESD) for decoding; encoding stays with the full VAE, whose latents it knows."""

    def __init__(self, full: Codec, vae: AutoencoderTiny):
        self.full, self.vae = full, vae
        self.name = "tiny VAE"
        self.use_network()

    @property
    def network(self) -> nn.Module:
        """The module behind `decoder`."""
        return self.vae.decoder

    def use_network(self) -> None:
        """Decode with the network itself."""
        self.decoder = self._decode

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]

    def encode(self, pixels: Tensor) -> Tensor:
        return self.full.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self.decoder(latents.to(self.vae.dtype).contiguous())
        return (pixels.float() / 2 + 0.5).clamp(0, 1)


def channels_last(module: nn.Module) -> nn.Module:
    """The same module with convolution weights in channels-last order, which tensor cores prefer."""
    return module.to(memory_format=torch.channels_last)
