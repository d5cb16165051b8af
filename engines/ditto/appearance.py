"""Appearance extractor: a portrait as a volume of features, which the warping network moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNorm


@dataclass(frozen=True)
class AppearanceConfig:
    """Widths of the appearance extractor; the volume has ``volume_channels`` x ``volume_depth`` x 64 x 64 numbers."""

    first_channels: int = 64
    most_channels: int = 512
    down_blocks: int = 2
    volume_channels: int = 32
    volume_depth: int = 16
    residual_blocks: int = 6

    def width(self, level: int) -> int:
        """Channels after ``level`` down blocks."""
        return min(self.most_channels, self.first_channels * 2**level)


class ResidualBlock(nn.Module):
    """Norm, ReLU, convolution, twice, and the input on top; ``[B, C, d, h, w]``."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm3d(channels), nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(h)))


class AppearanceExtractor(nn.Module):
    """LivePortrait's appearance extractor; the checkpoint's ``appearance_extractor.pth``."""

    def __init__(self, config: AppearanceConfig | None = None):
        super().__init__()
        self.config = config = config or AppearanceConfig()
        self.first = ConvNorm(2, 3, config.width(0))
        self.down_blocks = nn.ModuleList(
            ConvNorm(2, config.width(i), config.width(i + 1)) for i in range(config.down_blocks)
        )
        self.second = nn.Conv2d(
            config.width(config.down_blocks), config.volume_channels * config.volume_depth, 1
        )
        self.resblocks_3d = nn.ModuleDict(
            {f"3dr{i}": ResidualBlock(config.volume_channels) for i in range(config.residual_blocks)}
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """RGB pictures ``[B, 3, 256, 256]`` in [0, 1] as volumes ``[B, C, d, 64, 64]``."""
        x = F.relu(self.first(images))
        for block in self.down_blocks:
            x = F.avg_pool2d(F.relu(block(x)), 2)
        x = self.second(x).unflatten(1, (self.config.volume_channels, self.config.volume_depth))
        for block in self.resblocks_3d.values():
            x = block(x)
        return x
