"""The portrait, or the source video, that Ditto animates: the face is found, followed and shown to the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..engines.ditto.config import FPS
from ..engines.ditto.crop import CropOptions, cropped_face, cut, fitting_size
from ..engines.ditto.motion import degrees
from ..engines.ditto.pipeline import Source
from ..engines.parts.face.boxes import (
    Box,
    FaceNotFoundError,
    check_masks,
    choose_face,
    mask_boxes,
    painted_box,
)
from ..loaders.ditto.host_objects import ManagedDitto
from ..media.driving import DrivingVideo
from ..media.room import check_room
from .ditto import DittoStay
from .residence import PLAIN

LONGEST = 1920
"""Pixels of a video's longer side unless another number is asked for, as in the reference."""
LEAST_FACE = 16
"""Pixels of the smallest face that still has features."""
COARSE_FACE = 100
"""Pixels of a face below which the video is visibly softer than the picture around it: the networks see it enlarged."""
TURNED = 40
"""Degrees to one side from which on half of the face is a guess."""
ADVICE = "choose a photograph of a face from the front, or paint a mask over the face"


def prepare_source(
    ditto: ManagedDitto,
    video: DrivingVideo,
    *,
    who: str,
    face: Tensor | None = None,
    longest: int = LONGEST,
    max_frames: int = 0,
    crop: CropOptions | None = None,
    check_interrupt: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Source, Tensor]:
    """A portrait of a single frame or a source video of several, and the square [512, 512, 3] that the networks see.

    Args:
        video: its frames, which are brought to 25 a second where there are several.
        who: one of `boxes.CHOICES`; of several faces, the one that is animated.
        face: a mask [1, H, W] over the first frame, in place of the finder.
        longest: pixels of the video's longer side at most; sides become even.
        max_frames: of a source video, which is played forwards and backwards; 0: all.
        crop: how the square is laid around the face.
        say: is told what a person should know of the face.

    Raises:
        FaceNotFoundError: there is no face, or a video has lost it.
        ValueError: picture, mask or face are too small.
        MemoryError: the video is too long.
    """
    crop = crop or CropOptions()
    frames = (frame for block in video.blocks() for frame in block)
    opening = list(islice(frames, 2))
    size = _size(*opening[0].shape[:2], longest)
    box, note = _face(ditto, opening[0], face, who, size)
    shown = opening if len(opening) == 1 else _at_25(chain(opening, frames), video.fps)
    here = DittoStay(ditto, PLAIN, size, check_interrupt)  # a stream's own models may push the networks out

    def located() -> Iterator[tuple[Tensor, np.ndarray]]:
        landmarks = None
        for number, frame in enumerate(islice(shown, max_frames or None)):
            picture = _resized(frame, size)
            if number and number % FPS == 0:
                say(f"{number} frames of the source video are read.")
            if landmarks is None:
                landmarks = ditto.faces.landmarks(picture, box)
            else:
                check_room(2 * picture.nbytes, "further frames", "Set max_frames of the source video lower")
                landmarks = ditto.faces.follow(picture, landmarks)
                if face is None and not ditto.faces.is_there(picture, landmarks):
                    where = f"frame {number} of the source video"
                    raise FaceNotFoundError(number, where, f"set max_frames to {number} or less")
            yield picture, landmarks

    eyes = partial(ditto.faces.eyes, face=cropped_face(crop))
    source = ditto.engine.source(located(), eyes, crop, here.check)
    picture, matrix = source.pictures[0]
    say("\n".join([f"{size[1]} x {size[0]}", *_kind(source), *note, *_turned(source)]))
    return source, cut(picture, matrix).float() / 255


def _size(height: int, width: int, longest: int) -> tuple[int, int]:
    size = fitting_size(height, width, longest)
    if min(size) < LEAST_FACE:
        raise ValueError(
            f"Use a larger picture: of {width}x{height} pixels a video of {size[1]}x{size[0]} is left, which shows no "
            "face."
        )
    return size


def _face(
    ditto: ManagedDitto, frame: Tensor, mask: Tensor | None, who: str, size: tuple[int, int]
) -> tuple[Box, list[str]]:
    """The face in the first frame, in pixels of the resized one, and what is to be said about it."""
    picture = _resized(frame, size)
    note = []
    if mask is None:
        found = ditto.faces.faces(picture)
        if not found:
            raise FaceNotFoundError(0, "the picture", ADVICE)
        box = choose_face(found, who, *size)
        if len(found) > 1:
            note.append(f"{len(found)} faces were found; the {who} one is taken.")
    else:
        height, width = frame.shape[:2]
        check_masks(mask, height, width)
        across, down = size[1] / width, size[0] / height
        given = painted_box(mask_boxes(mask[:1])[0])
        box = Box(*(round(v * scale) for v, scale in zip(given, 2 * (across, down), strict=True)))
    side = max(box.x2 - box.x1, box.y2 - box.y1)
    if side < LEAST_FACE:
        raise ValueError(
            f"Use a picture in which the face is larger: it is {side} pixels wide, and {LEAST_FACE} are needed."
        )
    if side < COARSE_FACE:
        note.append(f"The face is only {side} pixels wide, and will look soft.")
    return box, note


def _resized(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 frame ``[H, W, 3]`` at a size."""
    if frame.shape[:2] == size:
        return frame
    pixels = frame.permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return pixels[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()


def _at_25(frames: Iterator[Tensor], fps: float) -> Iterator[Tensor]:
    """Frames of a video of ``fps`` frames a second at 25 a second: each is the video's in the middle of its time."""
    count = 0
    for number, frame in enumerate(frames, 1):
        while (count + 0.5) / FPS < number / fps:
            yield frame
            count += 1
    if not count:
        yield frame


def _kind(source: Source) -> list[str]:
    return [] if source.still else [f"{len(source.pictures)} frames of source video"]


def _turned(source: Source) -> list[str]:
    """What to say of a head that is turned to one side."""
    yaw = abs(degrees(source.character.motion.yaw[:1]).item())
    if yaw < TURNED:
        return []
    return [f"The head is turned by {yaw:.0f} degrees; a face from the front looks better."]
