"""Rendered squares put back into the picture that they were cut from.

Outside the square the picture stays as it is, so only the box around the square is computed, on the frames' device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..gpu.transfer import send
from .crop import SIDE, look_up, pixel_grid, transform, unit_grid

INNER = 0.9  # of the square's side is shown as it is rendered


def blending_mask(side: int = SIDE) -> Tensor:
    """How much of a rendered square is shown ``[side, side]``: 1 inside, falling to 0 at its edges."""
    edge = (side - int(side * INNER)) // 2
    ramp = 1 - torch.linspace(0, 1, edge)
    away = torch.zeros(side)
    away[:edge], away[side - edge :] = ramp, ramp.flip(0)
    return 1 - torch.hypot(away[:, None], away[None, :]).clamp(max=1)


class Paste:
    """The way of rendered squares back into one picture.

    Attributes:
        picture: uint8 ``[H, W, 3]`` on the CPU.
        box: what of it changes, as (top, left, bottom, right) in pixels.
    """

    def __init__(self, picture: Tensor, matrix: np.ndarray, device: torch.device | str = "cpu"):
        """``matrix`` is the one from the picture to the square (`crop.crop_matrix`).

        ValueError when the square lies outside the picture.
        """
        self.picture = picture.cpu()
        height, width = picture.shape[:2]
        corners = np.array([[0, 0], [0, SIDE - 1], [SIDE - 1, 0], [SIDE - 1, SIDE - 1]], dtype=np.float64)
        corners = transform(corners, np.linalg.inv(matrix))
        left, top = (max(0, math.floor(value)) for value in corners.min(0))
        right, bottom = (
            min(most, math.ceil(value) + 1)
            for most, value in zip((width, height), corners.max(0), strict=True)
        )
        if right <= left or bottom <= top:
            raise ValueError("Choose a face inside the picture: the square around this one lies outside it.")
        self.box = (top, left, bottom, right)
        pixels = pixel_grid(matrix, bottom - top, right - left, left, top)
        self._places = send(unit_grid(pixels, SIDE, SIDE), device)
        mask = look_up(send(blending_mask()[None, None], device), self._places)
        self._mask = mask.clamp(0, 1)  # [1, 1, h, w]
        below = send(self.picture[top:bottom, left:right], device).permute(2, 0, 1)[None].float()
        self._below = (1 - self._mask) * below  # [1, 3, h, w]

    def patches(self, squares: Tensor) -> Tensor:
        """What is in the box with rendered squares ``[n, 3, 512, 512]`` in [0, 1]: uint8 ``[n, h, w, 3]``.

        Truncated to 8 bits as in the reference.
        """
        moved = look_up(squares.float().clamp(0, 1) * 255, self._places)
        blended = (self._mask * moved + self._below).clamp(0, 255)
        # Put in order here, since the CPU would take longer.
        return blended.to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def frames(self, patches: Tensor) -> Tensor:
        """Whole frames ``[n, H, W, 3]`` on the CPU, with patches ``[n, h, w, 3]`` in their box."""
        top, left, bottom, right = self.box
        frames = self.picture.repeat(len(patches), 1, 1, 1)
        frames[:, top:bottom, left:right] = patches.cpu()
        return frames
