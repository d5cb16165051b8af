"""Pose guider: a keypoint drawing becomes features that are added after the UNet's first convolution."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .config import PoseGuiderConfig


class PoseGuider(nn.Module):
    """A row of 3x3 convolutions, three of them with stride 2; the checkpoint's ``pose_guider.pth``."""

    def __init__(self, config: PoseGuiderConfig | None = None):
        super().__init__()
        config = config or PoseGuiderConfig()
        self.conv_in = nn.Conv2d(3, config.channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for inner, outer in pairwise(config.channels):
            self.blocks.append(nn.Conv2d(inner, inner, 3, padding=1))
            self.blocks.append(nn.Conv2d(inner, outer, 3, padding=1, stride=2))
        self.conv_out_modify = nn.Conv2d(config.channels[-1], config.out_channels, 3, padding=1)

    def forward(self, drawing: Tensor) -> Tensor:
        """Drawings ``[n, 3, H, W]`` in [0, 1] to features ``[n, C, H/8, W/8]``."""
        x = F.silu(self.conv_in(drawing.to(self.conv_in.weight.dtype)))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out_modify(x)
