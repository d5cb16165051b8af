"""Stitching network: shifts driving keypoints so that the moved head stays joined to the portrait's shoulders."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .motion import POINTS


class StitchingNetwork(nn.Module):
    """LivePortrait's stitching module; ``retarget_shoulder`` of the checkpoint's ``stitch_network.pth``."""

    def __init__(self, points: int = POINTS, hidden: tuple[int, ...] = (128, 128, 64)):
        super().__init__()
        widths = (6 * points, *hidden, 3 * points + 2)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.eval()

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        """The driving keypoints ``[B, 21, 3]``, stitched; source keypoints are ``[B or 1, 21, 3]``."""
        source = source.expand_as(driving)
        shift = self.mlp(torch.cat([source.flatten(1), driving.flatten(1)], 1))
        each, both = shift[:, :-2].view_as(driving), F.pad(shift[:, -2:], (0, 1))
        return driving + each + both[:, None]
