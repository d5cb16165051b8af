"""Sharpness."""

from __future__ import annotations

import torch

from ..clip import Piece
from ..tracks import Track
from .difference import mean_difference


class Sharpness:
    """Gives "sharpness": the mean absolute difference of pixels side by side, 0 to 255, over all colours."""

    name = "sharpness"

    def read(self, piece: Piece) -> Track:
        values = [mean_difference(frame[:, 1:], frame[:, :-1]) for frame in piece.frames.numpy()]
        return Track(piece.times, torch.tensor(values))
