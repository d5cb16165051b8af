"""ComfyUI's own VAE and CLIP_VISION objects in the places where PersonaLive has the same models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..personalive.config import LATENT_SCALE, VAE_STRIDE

VAE_CHANNELS = 4


class HostCodec:
    """A host VAE that is Stable Diffusion 1.x's (best: ft-mse); the host manages its memory."""

    name = "full VAE"

    def __init__(self, vae: Any):
        """ValueError for a VAE with other latents."""
        stride = vae.spacial_compression_decode()
        if vae.latent_channels != VAE_CHANNELS or stride != VAE_STRIDE:
            raise ValueError(
                f"this VAE has {vae.latent_channels} latent channels at 1/{stride} of the size; "
                "PersonaLive needs Stable Diffusion 1.x's (vae-ft-mse-840000)"
            )
        self.vae = vae

    def encode(self, pixels: Tensor) -> Tensor:
        """See :class:`avatar.personalive.codec.Codec`; the host's encoder returns the mean, too."""
        latents = self.vae.encode((pixels / 2 + 0.5).permute(0, 2, 3, 1))
        return latents.to(pixels.device, torch.float32) * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`avatar.personalive.codec.Codec`."""
        frames = self.vae.decode(latents / LATENT_SCALE)
        return frames.permute(0, 3, 1, 2).to(latents.device, torch.float32).clamp(0, 1)


class HostClip:
    """A host CLIP_VISION that is CLIP ViT-L/14; its picture resampling differs a little from the original's."""

    def __init__(self, clip_vision: Any, width: int):
        """width: of the UNet's tokens (768); other embeddings are refused when they appear."""
        self.clip_vision, self.width = clip_vision, width

    def token(self, image: Image.Image, squash: bool = False) -> Tensor:
        """``[1, 1, width]``; ValueError when the model is another CLIP."""
        pixels = torch.from_numpy(np.array(image.convert("RGB")))[None].float() / 255
        embeds = self.clip_vision.encode_image(pixels, crop=not squash)["image_embeds"]
        if embeds.shape[-1] != self.width:
            raise ValueError(
                f"this CLIP vision model makes embeddings of width {embeds.shape[-1]}, PersonaLive needs "
                f"{self.width} (CLIP ViT-L/14 with projection)"
            )
        return embeds.reshape(1, 1, -1)
