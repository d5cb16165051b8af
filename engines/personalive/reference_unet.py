"""Reference UNet: a stock Stable Diffusion 1.x UNet, run once per picture for its intermediate features."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .config import UNetConfig


class ReferenceUNet(nn.Module):
    """Gives the features of one clean latent: the outputs of the first norm of every spatial transformer block.

    The parameters are those of ``reference_unet.pth``: the stock UNet without its output head.
    """

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        config = config or UNetConfig()
        self.unet = UNet2DConditionModel(**config.diffusers())
        self.unet.conv_norm_out, self.unet.conv_out = None, nn.Identity()
        self._features: dict[str, Tensor] = {}
        for name, module in self.unet.named_modules():
            if name.endswith("transformer_blocks.0.norm1"):
                module.register_forward_hook(self._keeper(name.removesuffix(".norm1")))
        self.eval()

    def _keeper(self, name: str):
        def keep(module: nn.Module, args: tuple, output: Tensor) -> None:
            self._features[name] = output

        return keep

    def forward(self, latent: Tensor, image_token: Tensor) -> dict[str, Tensor]:
        """Features ``{block path: [1, tokens, C]}`` of a latent ``[1, 4, h, w]`` and its CLIP token ``[1, 1,
        768]``."""
        dtype = self.unet.conv_in.weight.dtype
        time = torch.zeros(len(latent), device=latent.device)
        self.unet(latent.to(dtype), time, encoder_hidden_states=image_token.to(dtype), return_dict=False)
        features, self._features = self._features, {}
        return features
