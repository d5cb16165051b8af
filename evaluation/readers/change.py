"""Change from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ..clip import Piece
from ..tracks import Track
from .difference import mean_difference


class Change:
    """Gives "change": the mean absolute difference to the frame before over all pixels and colours, 0 to 255.

    The value of a frame stands at its time; the first frame has none.
    """

    name = "change"

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def read(self, piece: Piece) -> Track:
        frames = [*([] if self._last is None else [self._last]), *piece.frames]
        self._last = piece.frames[-1].clone()  # a view would keep all of the piece
        times = piece.times[len(piece.frames) - len(frames) + 1 :]
        pairs = zip(frames[1:], frames[:-1], strict=True)
        return Track(times, torch.tensor([mean_difference(a.numpy(), b.numpy()) for a, b in pairs]))
