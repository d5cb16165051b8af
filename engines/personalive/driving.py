"""A driving video becomes motion, block by block, whatever its size and whether or not every frame has a
face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..parts.face.boxes import (
    CHOICES,
    Box,
    FaceFinder,
    FaceNotFoundError,
    FaceTracker,
    centre_square,
    head_square,
)
from .motion import Motion
from .pipeline import PersonaLive

SIZE = 512  # pixels per side of the pictures that the model was trained with
MISSING = ("stop", "hold", "skip")
CROPS = ("centre", "head", "none")
ADVICE = "hold or skip such frames, or say where the face is"


class Followed(NamedTuple):
    """Motion of some frames.

    Attributes:
        frames: their numbers, counted from the video's first one.
        faces: most faces that a picture had so far; 0 without a face finder.
    """

    motion: Motion
    frames: list[int]
    faces: int


def driving_motion(
    engine: PersonaLive,
    blocks: Iterable[Tensor],
    *,
    crop: str = "centre",
    finder: FaceFinder | None = None,
    boxes: Tensor | None = None,
    who: str = CHOICES[0],
    missing: str = "stop",
    check_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[Followed]:
    """Motion of a video given as uint8 blocks ``[n, H, W, 3]``, lazily, one part per block that has any.

    Args:
        crop: "centre" takes the middle square, "head" a square around the head in the first frame that shows one
            (needs ``finder`` or ``boxes``), "none" the whole frame, stretched to a square. The crop never moves.
        finder: looks for a face in every frame; without one, a frame counts as faceless only where the model's own
            keypoints collapse or leave the picture.
        who: the one of several faces that is followed (`FaceTracker`).
        boxes: ``[N, 4]`` face boxes in pixels of the frames, instead of either; an empty box says that there is no
            face.
        missing: the treatment of a frame without a face. "stop" raises FaceNotFoundError naming it, "hold" repeats the
            last motion (or the first one to come), "skip" leaves the frame out.

    Raises:
        ValueError: an argument is wrong, or no frame has a face.
    """
    for name, value, known in (("missing", missing, MISSING), ("crop", crop, CROPS), ("who", who, CHOICES)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    if crop == "head" and finder is None and boxes is None:
        raise ValueError("Cropping to the head needs a face finder or face boxes.")
    tracker = FaceTracker(who)
    square: Box | None = None
    last: Motion | None = None
    index = owed = 0
    for block in blocks:
        check_interrupt()
        faces = _faces(block, finder, tracker, boxes, index)
        if square is None:
            square = _square(block, crop, faces)
        seen: dict[int, Motion] = {}
        if square is not None:
            seen = _observe(
                engine, block, square, faces if boxes is not None else None, _present(faces, block)
            )
        parts: list[Motion] = []
        frames: list[int] = []
        for i in range(len(block)):
            if i in seen:
                last = seen[i]
                parts += [last] * (owed + 1)
                frames += range(index + i - owed, index + i + 1)
                owed = 0
            elif missing == "stop":
                raise FaceNotFoundError(i, f"frame {index + i} of the driving video", ADVICE)
            elif missing == "hold" and last is not None:
                parts.append(last)
                frames.append(index + i)
            elif missing == "hold":
                owed += 1
        index += len(block)
        if parts:
            yield Followed(Motion.concat(parts), frames, tracker.most)
    if last is None:
        raise ValueError("No frame of the driving video has a face that can be followed.")


def _faces(
    block: Tensor, finder: FaceFinder | None, tracker: FaceTracker, boxes: Tensor | None, first: int
) -> list[Box | None] | None:
    """The face of every frame, None where there is none; None when nobody looks for faces."""
    if boxes is not None:
        rows = boxes[first : first + len(block)].tolist()
        if len(rows) < len(block):
            raise ValueError(f"There are face boxes for {len(boxes)} frames only; give one for every frame.")
        return [Box(*row) if row[2] > row[0] and row[3] > row[1] else None for row in rows]
    if finder is None:
        return None
    return [tracker.follow(finder.find(frame.numpy()), *frame.shape[:2]) for frame in block]


def _present(faces: list[Box | None] | None, block: Tensor) -> list[int]:
    return [i for i in range(len(block)) if faces is None or faces[i] is not None]


def _square(block: Tensor, crop: str, faces: list[Box | None] | None) -> Box | None:
    """The square that is cut out of every frame; None while a head is still to be found."""
    height, width = block.shape[1:3]
    if crop == "none":
        return Box(0, 0, width, height)
    if crop == "centre":
        return centre_square(height, width)
    face = next((face for face in faces if face is not None), None)
    return None if face is None else head_square(face, height, width)


def _observe(
    engine: PersonaLive, block: Tensor, square: Box, faces: list[Box | None] | None, wanted: list[int]
) -> dict[int, Motion]:
    """Motion of the wanted frames by their place in the block, without those whose face box is empty."""
    boxes = None
    if faces is not None:
        boxes = torch.tensor([_within(faces[i], square) for i in wanted]).reshape(-1, 4)
    frames = _cut(block if len(wanted) == len(block) else block[wanted], square)
    while wanted:
        try:
            motion = engine.observe(frames, boxes)
        except FaceNotFoundError as error:
            keep = [i for i in range(len(wanted)) if i != error.index]
            wanted, frames = [wanted[i] for i in keep], frames[keep]
            boxes = None if boxes is None else boxes[keep]
            continue
        return {place: motion[i : i + 1] for i, place in enumerate(wanted)}
    return {}


def _within(face: Box, square: Box) -> list[int]:
    """A face box in the coordinates of the square after it was resized."""
    across, down = SIZE / (square.x2 - square.x1), SIZE / (square.y2 - square.y1)
    values = (
        (face.x1 - square.x1) * across,
        (face.y1 - square.y1) * down,
        (face.x2 - square.x1) * across,
        (face.y2 - square.y1) * down,
    )
    return [min(max(round(v), 0), SIZE) for v in values]


def _cut(frames: Tensor, square: Box) -> Tensor:
    """The square of every frame at SIZE, uint8; frames that are so already are not touched."""
    frames = frames[:, square.y1 : square.y2, square.x1 : square.x2]
    if frames.shape[1:3] == (SIZE, SIZE) or not len(frames):
        return frames
    # one by one: a 4K frame in floats is large
    return torch.cat([_resized(frame[None]) for frame in frames])


def _resized(frames: Tensor) -> Tensor:
    pixels = frames.permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
