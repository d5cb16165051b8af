"""Which part of the picture hears which speaker."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def claim_areas(masks: Tensor, rows: int, columns: int) -> Tensor:
    """Reduce pixel masks [speakers, frames, H, W] to the patch grid [speakers, frames, rows, columns], bool.

    Anything above 0 marks a speaker. A patch belongs to a speaker who covers more than half of it; where several
    do, to the last of them.
    """
    covered = (
        F.interpolate((masks > 0).float(), size=(rows, columns), mode="bilinear", align_corners=False) > 0.5
    )
    for speaker in range(covered.shape[0] - 1):
        covered[speaker] &= ~covered[speaker + 1 :].any(0)
    return covered


def dilate_areas(areas: Tensor, ratio: float = 0.1) -> Tensor:
    """Grow each area [speakers, frames, rows, columns] by ``ratio`` of its bounding box, at least one patch."""
    grown = torch.zeros_like(areas)
    for speaker, area in enumerate(areas):
        where = area.any(0).nonzero()
        if not len(where):
            continue
        extent = (where.max(0).values - where.min(0).values + 1).max().item()
        radius = max(1, int(ratio * extent + 0.9999))
        grown[speaker] = F.max_pool2d(area.float()[None], 2 * radius + 1, 1, radius)[0] > 0
    return grown


def routing_masks(masks: Tensor, rows: int, columns: int) -> Tensor:
    """Where each speaker is heard, float [speakers, frames, rows, columns].

    A speaker is heard everywhere except where another one's (grown) area is: the background follows all of them, and
    all of it one speaker when the others have left the picture.
    """
    grown = dilate_areas(claim_areas(masks, rows, columns))
    others = grown.sum(0, keepdim=True) - grown.int()
    return (others == 0).float()
