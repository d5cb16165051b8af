"""Reads the mouth off finished pixels: which drawn mouth of this face looks most like the picture.

Nothing of the model is used. For a portrait whose drawing parameters are known, mouths of many openings and widths
are drawn, and each frame takes the opening of the closest one, over small shifts of the head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import mouth_box, render
from .faces import Identity
from .motion import still

OPENINGS = torch.linspace(0, 1, 21)
WIDTHS = torch.tensor([-0.8, -0.3, 0.2, 0.7])
TEETH = torch.tensor([0.0, 0.5])


def openings(video: Tensor, identity: Identity, reach: int = 7) -> Tensor:
    """Mouth opening 0..1 of each frame [F] of `video` [F, 3, S, S] in [-1, 1]; `identity` holds one face.

    `reach`: how many pixels the head may have moved, in each direction.
    """
    size, device = video.shape[-1], video.device
    grid = torch.cartesian_prod(OPENINGS, WIDTHS, TEETH).to(device)
    motion = still(len(grid), 1, device)
    motion["open"], motion["wide"], motion["teeth"] = (column[:, None] for column in grid.T)
    motion["dy"] = 0.035 * motion["open"]
    faces = {name: value.expand(len(grid), *value.shape[1:]) for name, value in identity.items()}
    left, top, right, bottom = mouth_box(identity, size)[0].round().int().tolist()
    corner = torch.tensor([[left], [top]], device=device).expand(-1, len(grid))
    window = max(right - left, bottom - top)
    drawn = render(faces, motion, size, (*corner, window))[:, 0, :, : bottom - top, : right - left]
    wide = F.pad(video, (reach,) * 4, mode="replicate")[
        :, :, top : bottom + 2 * reach, left : right + 2 * reach
    ]
    power = F.avg_pool2d(wide.square(), drawn.shape[-2:], 1, divisor_override=1).sum(1)
    match = F.conv2d(wide, drawn)
    error = power[:, None] - 2 * match + drawn.square().flatten(1).sum(1)[None, :, None, None]
    best = error.flatten(2).amin(2)
    weight = torch.softmax(-best / (best.amin(1, keepdim=True) * 0.05 + 1e-3), 1)
    return weight @ grid[:, 0]


def lagged_correlation(read: Tensor, target: Tensor, reach: int = 6) -> tuple[float, int]:
    """Best correlation of two tracks [F] over shifts of up to `reach` frames, and that shift: positive when `read`
    comes late."""
    scores = {}
    for lag in range(-reach, reach + 1):
        a = read[max(lag, 0) : len(read) + min(lag, 0)]
        b = target[max(-lag, 0) : len(target) + min(-lag, 0)]
        scores[lag] = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
    best = max(scores, key=scores.get)
    return scores[best], best
