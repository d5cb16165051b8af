"""Shifts of the keypoints that turn the eyes and move their lids, as LivePortrait's retargeting does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .motion import POINTS

LEFT_LID, RIGHT_LID = 11, 15
"""Points of the upper lids, which follow the irises."""
LOWER_LIDS = (13, 16)
INWARD, OUTWARD = 0.0007, 0.001
LOWER = 0.0003
SHUT = -20.0
"""`eyelids` of eyes that are shut."""
BLINK_FRAMES = 15


def gaze(across: Tensor, up: Tensor) -> Tensor:
    """Shifts ``[n, 63]`` of eyes that look ``[n, 1]`` degrees to the picture's right, and up."""
    left, right = (across * torch.where(across > 0, a, b) for a, b in ((INWARD, OUTWARD), (OUTWARD, INWARD)))
    shift = across.new_zeros(len(across), POINTS, 3)
    for point, sideways in ((LEFT_LID, left), (RIGHT_LID, right)):
        shift[:, point, 0] = sideways[:, 0]
        shift[:, point, 1] = -up[:, 0] * OUTWARD
    return shift.flatten(1)


def eyelids(opened: Tensor) -> Tensor:
    """Shifts ``[n, 63]`` of lids that open ``[n, 1]`` more than the source's; `SHUT` closes them."""
    shift = opened.new_zeros(len(opened), POINTS, 3)
    shift[:, [LEFT_LID, RIGHT_LID], 1] = -OUTWARD * opened
    shift[:, LOWER_LIDS, 1] = LOWER * opened
    return shift.flatten(1)


def blink_table() -> Tensor:
    """Shifts ``[15, 63]`` of the keypoints during a blink, where the published settings have none."""
    place = torch.arange(BLINK_FRAMES) / BLINK_FRAMES
    return eyelids(SHUT * (0.5 - 0.5 * torch.cos(2 * math.pi * place))[:, None])
