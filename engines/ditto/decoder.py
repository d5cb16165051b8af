"""SPADE decoder: paints a frame from the feature map of the warping network."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import SpectralConv

MIDDLE_BLOCKS = 6
SLOPE = 0.2  # of the leaky ReLU


@dataclass(frozen=True)
class DecoderConfig:
    """Widths of the decoder. Its picture is eight times as high and wide as its feature map."""

    inputs: int = 256
    middle: int = 512
    last: int = 64
    hidden: int = 128


class Spade(nn.Module):
    """Instance norm whose scale and shift are painted from the feature map."""

    def __init__(self, channels: int, inputs: int, hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """``[B, C, H, W]``, with a feature map ``[B, c, h, w]`` whose size divides it."""
        hidden = self.mlp_shared(F.interpolate(feature, size=x.shape[-2:]))
        return F.instance_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    """Two convolutions with SPADE norms in front of them, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, config: DecoderConfig):
        super().__init__()
        middle = min(inputs, outputs)
        self.conv_0, self.conv_1 = SpectralConv(inputs, middle, 3), SpectralConv(middle, outputs, 3)
        self.norm_0 = Spade(inputs, config.inputs, config.hidden)
        self.norm_1 = Spade(middle, config.inputs, config.hidden)
        self.conv_s = self.norm_s = None
        if inputs != outputs:
            self.conv_s = SpectralConv(inputs, outputs, 1, bias=False)
            self.norm_s = Spade(inputs, config.inputs, config.hidden)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, N, H, W]``."""
        h = self.conv_0(F.leaky_relu(self.norm_0(x, feature), SLOPE))
        h = self.conv_1(F.leaky_relu(self.norm_1(h, feature), SLOPE))
        return h + (x if self.conv_s is None else self.conv_s(self.norm_s(x, feature)))


class SpadeDecoder(nn.Module):
    """LivePortrait's SPADE decoder; the checkpoint's ``decoder.pth``."""

    def __init__(self, config: DecoderConfig | None = None):
        super().__init__()
        self.config = config = config or DecoderConfig()
        self.fc = nn.Conv2d(config.inputs, config.middle, 3, padding=1)
        for i in range(MIDDLE_BLOCKS):
            self.add_module(f"G_middle_{i}", SpadeBlock(config.middle, config.middle, config))
        self.up_0 = SpadeBlock(config.middle, config.inputs, config)
        self.up_1 = SpadeBlock(config.inputs, config.last, config)
        self.conv_img = nn.Sequential(nn.Conv2d(config.last, 12, 3, padding=1), nn.PixelShuffle(2))
        self.eval()

    def forward(self, feature: Tensor) -> Tensor:
        """Feature maps ``[B, C, h, w]`` as RGB pictures ``[B, 3, 8 h, 8 w]`` in [0, 1]."""
        x = self.fc(feature)
        for i in range(MIDDLE_BLOCKS):
            x = self.get_submodule(f"G_middle_{i}")(x, feature)
        for block in (self.up_0, self.up_1):
            x = block(F.interpolate(x, scale_factor=2), feature)
        return self.conv_img(F.leaky_relu(x, SLOPE)).sigmoid()
