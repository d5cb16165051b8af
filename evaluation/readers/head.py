"""Where the head is, and what the face does apart from moving as a whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.parts.face.boxes import Box
from ..clip import Piece
from ..tracks import Track
from .darkness import grey

SIDE = 64
"""Pixels per side of the face when its shift is looked for."""
PATCH = 16
"""Pixels per side of the face whose expression is kept: small, so that noise of a codec is averaged out."""


class Head:
    """Gives "head": the shift ``[F, 2]`` of the face from its place in the first frame, to the right and down, in
    parts of the face's width and height. The shift is the peak of the phase correlation, refined by a parabola."""

    name = "head"

    def __init__(self, box: Box) -> None:
        self._box, self._first = box, None
        window = torch.hann_window(SIDE, periodic=False)
        self._window = window[:, None] * window

    def read(self, piece: Piece) -> Track:
        faces = shrunk(piece.frames, self._box, SIDE)
        spectrum = torch.fft.rfft2((faces - faces.mean((1, 2), keepdim=True)) * self._window)
        if self._first is None:
            self._first = spectrum[:1]
        product = spectrum * self._first.conj()
        peak = torch.fft.irfft2(product / product.abs().clamp(min=1e-3), s=(SIDE, SIDE))
        return Track(piece.times, torch.stack([_shift(one) for one in peak]) / SIDE)


class Face:
    """Gives "face": the face as a small grey picture ``[F, 16, 16]``, uint8."""

    name = "face"

    def __init__(self, box: Box) -> None:
        self._box = box

    def read(self, piece: Piece) -> Track:
        return Track(piece.times, shrunk(piece.frames, self._box, PATCH).round().to(torch.uint8))


def shrunk(frames: Tensor, box: Box, side: int) -> Tensor:
    """A box of uint8 frames ``[F, H, W, 3]`` as grey squares ``[F, side, side]`` from 0 to 255."""
    inside = grey(frames[:, box.y1 : box.y2, box.x1 : box.x2])
    return F.interpolate(inside[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]


def _shift(peak: Tensor) -> Tensor:
    """Right and down, in pixels, of the largest value of a correlation ``[SIDE, SIDE]`` that wraps around."""
    row, column = divmod(int(peak.argmax()), SIDE)
    found = []
    for line, at in ((peak[row], column), (peak[:, column], row)):
        before, here, after = (line[(at + step) % SIDE] for step in (-1, 0, 1))
        bend = before - 2 * here + after
        part = 0.5 * (before - after) / bend if bend < 0 else peak.new_zeros(())
        place = at + part
        found.append(place - SIDE if place > SIDE / 2 else place)
    return torch.stack(found)
