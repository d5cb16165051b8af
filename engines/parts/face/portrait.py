"""A portrait made ready: cut around its head, evenly lit, and with words for what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .boxes import Face, FaceNotFoundError, choose_face
from .faults import faults
from .framing import Framing, cut_out, eye_line, frame_head
from .light import even_light

ENLARGED = 1.25
"""From this factor on it is said that a portrait was enlarged."""
TILTED = 5.0  # degrees


class Ready(NamedTuple):
    """A portrait ``[height, width, 3]`` from 0 to 1, and sentences about it."""

    picture: Tensor
    words: list[str]


def make_ready(
    picture: Tensor, faces: Sequence[Face], who: str, framing: Framing, height: int, width: int, light: float
) -> Ready:
    """Prepare a picture ``[H, W, 3]`` from 0 to 1.

    Args:
        faces: those that were found in it.
        who: one of `boxes.CHOICES`.
        light: strength of `even_light`, 0 to 1.

    Raises:
        FaceNotFoundError: there is none.
    """
    if not faces:
        raise FaceNotFoundError(0, "the portrait", "paint a mask over it, or use a picture that shows one")
    rows, columns = picture.shape[:2]
    box = choose_face([face.box for face in faces], who, rows, columns)
    chosen = next(face for face in faces if face.box == box)
    words = faults(picture, faces, chosen)
    cut = frame_head(chosen, rows, columns, width / height, framing)
    if abs(tilt := eye_line(chosen)) >= TILTED and not cut.degrees:
        words.append(f"Switch level on, or turn the picture: the head is tilted by {tilt:.0f} degrees.")
    if (factor := height / cut.height) >= ENLARGED:
        words.append(f"Put an upscale model before this node: the head was enlarged {factor:.1f} times.")
    lit = even_light(picture, box, light)
    shown = cut_out((lit * 255).round().byte(), cut, height, width).float() / 255
    return Ready(shown, words)
