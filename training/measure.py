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


def parts(identity: Identity) -> dict[str, list[float]]:
    """Face, mouth and eyes of one drawn face at rest, as left, top, right and bottom in parts of the picture."""
    one = {name: value[0] for name, value in identity.items() if value.dim() == 1}

    def box(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> list[float]:
        places = one["x"] + left * one["scale"], one["y"] + top * one["scale"]
        ends = one["x"] + right * one["scale"], one["y"] + bottom * one["scale"]
        return [round(float(value) + 0.5, 4) for value in (*places, *ends)]

    eye, wide = one["eye_x"] + 1.3 * one["eye_w"], one["face_w"]
    high = 1.3 * one["eye_h"]
    return {
        "face": box(-wide, -one["face_h"], wide, one["face_h"]),
        "mouth": [round(float(value), 4) for value in mouth_box(identity, 1)[0]],
        "eyes": box(-eye, one["eye_y"] - high, eye, one["eye_y"] + high),
    }
