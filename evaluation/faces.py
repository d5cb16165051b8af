"""Where face, mouth and eyes are: boxes that stay fixed for a whole video.

Boxes follow from one face box. They are never chosen by what moves with the sound: that finds a mouth in every
video, also where nobody speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from ..engines.parts.face.boxes import SMALLEST_FACE, Box, FaceFinder
from .clip import Clip

MOUTH = (0.25, 0.66, 0.75, 0.96)
"""Left, top, right and bottom of the mouth, in parts of a finder's face box."""
EYES = (0.12, 0.25, 0.88, 0.52)
LOOKED_AT = 4
"""Pieces of a video in which a face is looked for."""


@dataclass(frozen=True)
class Regions:
    """Boxes in pixels of the video; ``origin`` says who found them."""

    face: Box
    mouth: Box
    eyes: Box
    origin: str

    def fit(self, width: int, height: int) -> Regions:
        """The same; ValueError when a box does not lie inside the frame."""
        for name in ("face", "mouth", "eyes"):
            box = getattr(self, name)
            inside = 0 <= box.x1 < box.x2 <= width and 0 <= box.y1 < box.y2 <= height
            if not inside or min(box.x2 - box.x1, box.y2 - box.y1) < SMALLEST_FACE:
                raise ValueError(f"Give a {name} inside the frame of {width}x{height}: it is {tuple(box)}.")
        return self


def regions_of(face: Box, origin: str, mouth: Box | None = None, eyes: Box | None = None) -> Regions:
    """Mouth and eyes where they are in an upright face, unless they are given."""
    return Regions(face, mouth or _part(face, MOUTH), eyes or _part(face, EYES), origin)


def find_regions(clip: Clip, finder: FaceFinder) -> Regions | None:
    """The regions of the largest face in the first frames that show one; None when there is none."""
    for piece in islice(clip.pieces(), LOOKED_AT):
        for frame in (piece.frames[0], piece.frames[-1]):
            if faces := finder.find(frame.numpy()):
                return regions_of(faces[0], type(finder).__name__)
    return None


def _part(box: Box, part: tuple[float, float, float, float]) -> Box:
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return Box(
        round(box.x1 + part[0] * width),
        round(box.y1 + part[1] * height),
        round(box.x1 + part[2] * width),
        round(box.y1 + part[3] * height),
    )
