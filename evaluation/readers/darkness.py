"""Mouth and eyes by the dark parts of a fixed box."""

from __future__ import annotations

import torch
from torch import Tensor

from ...engines.parts.face.boxes import Box
from ..clip import Piece
from ..tracks import Track

DARKEST = 0.2
"""The part of a box that is looked at: the inside of an open mouth, pupils and lashes."""
GREY = (0.299, 0.587, 0.114)


def grey(frames: Tensor) -> Tensor:
    """Brightness ``[F, H, W]`` from 0 to 255 of uint8 frames ``[F, H, W, 3]``."""
    return frames.float() @ torch.tensor(GREY)


def darkness(frames: Tensor, box: Box) -> Tensor:
    """How dark the darkest fifth of a box is in each frame ``[F]``, from 0 (white) to 1 (black)."""
    inside = grey(frames[:, box.y1 : box.y2, box.x1 : box.x2]).flatten(1)
    count = max(1, round(inside.shape[1] * DARKEST))
    return 1 - inside.topk(count, 1, largest=False, sorted=False).values.mean(1) / 255


class Darkness:
    """Gives the darkness of one fixed box under a name: "mouth" rises when a mouth opens, "eyes" falls in a blink."""

    def __init__(self, name: str, box: Box) -> None:
        self.name, self._box = name, box

    def read(self, piece: Piece) -> Track:
        return Track(piece.times, darkness(piece.frames, self._box))
