"""Mean colour."""

from __future__ import annotations

import numpy as np
import torch

from ..clip import Piece
from ..tracks import Track


class Colour:
    """Gives "colour": mean red, green and blue ``[F, 3]``, 0 to 255."""

    name = "colour"

    def read(self, piece: Piece) -> Track:
        columns = piece.frames.numpy().sum(1, dtype=np.uint32)
        return Track(
            piece.times, torch.from_numpy((columns.mean(1) / piece.frames.shape[1]).astype(np.float32))
        )
