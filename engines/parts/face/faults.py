"""What is wrong with a portrait, in words. The limits were set on photographs and drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import Box, Face
from .light import brightness, face_brightness, part

SMALL = 96  # pixels of a face box's height
TURNED = 35.0  # degrees
NOSE = 0.5
"""How far the tip of a nose lies in front of the eyes, by the distance of the eyes."""
SIDE = 128  # pixels at which a face is looked at for sharpness
BLURRED = 0.01
"""Energy of a face's second differences by its variance: 0.04 to 0.6 in sharp portraits, 0.003 to 0.012 in the same
after a blur of 1.6 % of the face."""
DARK = 0.15
"""Median brightness of a face, from 0 to 1, below which it is called dark."""
MOUTH = (0.3, 0.66, 0.7, 0.96)
"""Left, top, right and bottom of the mouth, in parts of a face box."""
HOLE, OPEN, BEARD = 0.45, 0.12, 0.1
"""Skin is darker than a mouth's inside by this factor; the mouth's share of its box from which on it is open (a closed
one has 0.03 at most); the share of the lowest part that only a beard darkens."""


def faults(picture: Tensor, faces: Sequence[Face], chosen: Face) -> list[str]:
    """Sentences about the ``chosen`` one of the faces in a picture ``[H, W, 3]`` from 0 to 1, remedy first."""
    box, found = chosen.box, []
    high, turned = box.y2 - box.y1, turn(chosen)
    others = [face for face in faces if face is not chosen and face.box.common(box) == 0]
    if high < SMALL:
        found.append(
            f"Use a larger picture: the face is {high} pixels high, and below {SMALL} it is guessed."
        )
    if chosen.profile or turned > TURNED:
        degrees = "far" if chosen.profile else f"by about {turned:.0f} degrees"
        found.append(f"Use a picture from the front: the head is turned {degrees}.")
    if high >= SMALL and sharpness(picture, box) < BLURRED:
        found.append("Use a sharper picture: the face is blurred.")
    if face_brightness(picture, box) < DARK:
        found.append("Use a brighter picture: the face is dark.")
    if mouth_is_open(picture, box):
        found.append("Use a picture with closed lips: the mouth seems to be open.")
    if others:
        found.append(f"Crop the picture, or choose by 'who': {len(others) + 1} faces were found.")
    return found


def turn(face: Face) -> float:
    """Degrees by which a head is turned to a side, from where the nose is between the eyes; 0 where nobody knows."""
    if face.points is None:
        return 0.0
    left, right, nose = (torch.as_tensor(point).double() for point in face.points[:3])
    line = right - left
    across = line.norm().clamp(min=1e-6)
    aside = ((nose - (left + right) / 2) @ line / across).abs()
    return math.degrees(math.atan2(aside.item(), NOSE * across.item()))


def sharpness(picture: Tensor, face: Box) -> float:
    """Energy of the face's second differences by its variance, at one size for all faces."""
    grey = brightness(picture[face.y1 : face.y2, face.x1 : face.x2])[None, None]
    grey = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    laplacian = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return (F.conv2d(grey, laplacian).var() / grey.var().clamp(min=1e-8)).item()


def mouth_is_open(picture: Tensor, face: Box) -> bool:
    """Whether there is a hole where the mouth is: much darker than the skin, and with lighter skin below."""
    dark = brightness(picture[part(face, MOUTH)]) < HOLE * face_brightness(picture, face)
    if not dark.numel():
        return False
    lowest = dark[-max(1, len(dark) // 5) :]
    return dark.float().mean().item() >= OPEN and lowest.float().mean().item() <= BEARD
