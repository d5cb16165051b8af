"""How far the face is from that of the reference picture, without a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.parts.face.boxes import Box
from ..clip import Piece
from ..tracks import Track

BLUR = 9
"""Pixels over which pictures are blurred before they are compared, so that edges that move little do not count."""
EVERY = 25
"""Frames from one that is compared to the next."""
REACH = 4
"""Pixels on either side that a pixel of an enlarged picture depends on."""


def face_distance(frame: Tensor, portrait: Tensor, mouth: Box) -> float:
    """Mean absolute colour difference, 0 to 255, of two blurred pictures ``[3, H, W]`` of 0 to 255, without the
    mouth."""
    blurred = F.avg_pool2d(torch.stack([frame, portrait]), BLUR, 1, BLUR // 2, count_include_pad=False)
    keep = torch.ones(frame.shape[-2:], dtype=torch.bool)
    keep[mouth.y1 : mouth.y2, mouth.x1 : mouth.x2] = False
    return float((blurred[0] - blurred[1]).abs()[:, keep].mean())


class PortraitDistance:
    """Gives "portrait distance" for one of 25 frames; ``reference`` is a picture ``[H, W, 3]``, uint8, of the
    video's size (see `covered`)."""

    name = "portrait distance"

    def __init__(self, reference: Tensor, face: Box, mouth: Box) -> None:
        self._face = face
        self._reference = self._cut(reference)
        left, right = max(0, mouth.x1 - face.x1), max(0, mouth.x2 - face.x1)
        self._mouth = Box(left, max(0, mouth.y1 - face.y1), right, max(0, mouth.y2 - face.y1))
        self._count = 0

    def _cut(self, picture: Tensor) -> Tensor:
        box = self._face
        return picture[box.y1 : box.y2, box.x1 : box.x2].permute(2, 0, 1).float()

    def read(self, piece: Piece) -> Track:
        chosen = [i for i in range(len(piece.frames)) if (self._count + i) % EVERY == 0]
        self._count += len(piece.frames)
        values = [face_distance(self._cut(piece.frames[i]), self._reference, self._mouth) for i in chosen]
        return Track(piece.times[chosen], torch.tensor(values))


def covered(picture: Tensor, width: int, height: int) -> Tensor:
    """A picture ``[H, W, 3]``, uint8, scaled until it covers a frame, and cut to its middle."""
    if tuple(picture.shape[:2]) == (height, width):
        return picture
    scale = max(height / picture.shape[0], width / picture.shape[1])
    if scale > 1:  # what is cut off is not enlarged before: a strip would need gigabytes
        picture = _middle(_middle(picture, 0, height / scale), 1, width / scale)
    size = (
        max(height, round(picture.shape[0] * scale)),
        max(width, round(picture.shape[1] * scale)),
    )
    moved = picture.permute(2, 0, 1)[None].float()
    scaled = F.interpolate(moved, size, mode="bicubic", antialias=True)[0].clamp(0, 255)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cut = scaled[:, top : top + height, left : left + width]
    return cut.round().to(torch.uint8).permute(1, 2, 0)


def _middle(picture: Tensor, side: int, wanted: float) -> Tensor:
    """The middle of one side of a picture, with the few pixels around it that reach into it when it is enlarged."""
    spare = max(0, int((picture.shape[side] - wanted) / 2) - REACH)
    return picture.narrow(side, spare, picture.shape[side] - 2 * spare)
