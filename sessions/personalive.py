"""PersonaLive on this machine: portraits prepared, motion read, the video that both make; nothing of it is a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engines.parts.face.boxes import (
    Box,
    FaceNotFoundError,
    centre_square,
    check_masks,
    choose_face,
    head_square,
    mask_boxes,
    painted_box,
)
from ..engines.personalive.config import StreamConfig
from ..engines.personalive.driving import SIZE, driving_motion
from ..engines.personalive.motion import Motion
from ..engines.personalive.pipeline import Portrait, check_size
from ..engines.personalive.preprocess import lanczos, to_pil, to_uint8
from ..loaders.personalive.host_objects import ManagedPersonaLive, face_finder
from ..media.audio import pad, trim
from ..media.driving import DrivingVideo, sound_of_frames
from ..media.frames import AvatarStream
from ..media.portrait import colours
from .residence import AUTO, Residence, check_speed

OPENCV = "opencv"
"""The face finder that looks at the pictures; the other one goes by the model's own keypoints."""


@dataclass(frozen=True)
class Driving:
    """A motion with the frame rate and the sound of the video it came from."""

    motion: Motion
    fps: float
    audio: dict | None


def prepare_portraits(
    personalive: ManagedPersonaLive,
    images: Tensor,
    height: int,
    width: int,
    crop: str,
    who: str,
    face: Tensor | None,
    check_interrupt: Callable[[], None],
    say: Callable[[str], None],
) -> tuple[list[Portrait], Tensor]:
    """Portraits of pictures [n, H, W, C], and the pictures as they were cut [n, height, width, 3].

    Args:
        crop: one of `CROPS`.
        who: one of `CHOICES`; of several faces, the one that "head" takes.
        face: masks [m, H, W] over the pictures; the last one serves all that follow.

    Raises:
        ValueError: the size or a mask does not fit.
        FaceNotFoundError: "head" finds no face.
    """
    check_size(height, width)
    if face is not None:
        check_masks(face, *images.shape[1:3])
    masks = None if face is None else mask_boxes(face)
    cuts, most = [], 0
    for i, picture in enumerate(to_uint8(colours(images))):
        given = None if masks is None else painted_box(masks[min(i, len(masks) - 1)])
        found = _find(picture) if crop == "head" and given is None else []
        most = max(most, len(found))
        head = given or (choose_face(found, who, *picture.shape[:2]) if found else None)
        cuts.append(_cut_portrait(picture, crop, width / height, head, given))
    if most > 1:
        say(f"{most} faces were found; the {who} one is taken")
    engine = personalive.load(height, width)
    portraits, prepared = [], []
    for part, box in cuts:
        check_interrupt()
        if box is not None:
            rows, columns = part.shape[:2]
            scale = torch.tensor([width / columns, height / rows] * 2)
            box = (box * scale).round().long().minimum(torch.tensor([width, height] * 2)).clamp(min=0)
        portraits.append(engine.portrait(part, height, width, box))
        prepared.append(lanczos(to_pil(part), height, width)[0].permute(1, 2, 0))
    return portraits, torch.stack(prepared)


def extract_motion(
    personalive: ManagedPersonaLive,
    video: DrivingVideo,
    audio: dict | None,
    crop: str,
    finder: str,
    missing: str,
    who: str,
    faces: Tensor | None,
    check_interrupt: Callable[[], None],
    say: Callable[[str], None],
) -> Driving:
    """The motion of a driving video, with ``audio`` or the video's own sound; frames that are left out take it along.

    Args:
        finder, crop, missing, who: see `engines.personalive.driving.driving_motion`.
        faces: a mask per frame [n, H, W] in place of a finder.
    """
    boxes = None if faces is None else mask_boxes(faces)
    looking = boxes is None and (finder == OPENCV or crop == "head")

    def blocks() -> Iterator[Tensor]:
        ready = personalive.load  # after the first block: a stream has loaded its own models by then
        for block in video.blocks():
            if faces is not None:
                check_masks(faces, *block.shape[1:3])
            ready(SIZE, SIZE)
            ready = personalive.bring_back
            yield block

    parts: list[Motion] = []
    frames: list[int] = []
    for part in driving_motion(
        personalive.engine,
        blocks(),
        crop=crop,
        finder=face_finder() if looking else None,
        boxes=boxes,
        who=who,
        missing=missing,
        check_interrupt=check_interrupt,
    ):
        parts.append(part.motion.to("cpu"))
        frames += part.frames
        say(_progress(len(frames), part.faces, who, crop))
    sound = audio or video.audio
    if sound is not None:
        sound = sound_of_frames(sound, frames, video.fps)
    return Driving(Motion.concat(parts), video.fps, sound)


def open_animation(
    personalive: ManagedPersonaLive,
    portrait: Portrait,
    driving: Driving,
    config: StreamConfig,
    seed: int,
    *,
    max_frames: int = 0,
    speed: str = AUTO,
    lead_in: bool = False,
    check_interrupt: Callable[[], None],
) -> AvatarStream:
    """The stream in which ``portrait`` does what ``driving`` does; nothing is loaded before it is read.

    Args:
        max_frames: how many at most; 0: all.
        speed: one of `residence.CHOICES`; ValueError or RuntimeError where it cannot be had.
        lead_in: also shows the frames in which the portrait moves to the first driving frame; the sound waits.
    """
    check_speed(speed, personalive)
    length = min(len(driving.motion), max_frames or len(driving.motion))
    height, width = portrait.size

    def start() -> Iterator[Tensor]:
        here = Residence(personalive, speed, height, width, check_interrupt)
        try:
            yield from here.engine.animate(
                portrait.to(here.engine.device),
                [driving.motion[:length]],
                config,
                seed,
                lead_in=lead_in,
                check_interrupt=here.check,
            )
        finally:
            here.leave()

    frames, audio = length, driving.audio
    if audio is not None:
        audio = trim(audio, seconds=length / driving.fps)
    if lead_in:
        frames += config.ramp
        audio = None if audio is None else pad(audio, before_seconds=config.ramp / driving.fps)
    return AvatarStream(start, frames=frames, width=width, height=height, fps=driving.fps, audio=audio)


def _progress(frames: int, faces: int, who: str, crop: str) -> str:
    """The progress as a text for people."""
    if faces < 2:
        return f"{frames} frames"
    advice = "" if crop == "head" else "; crop 'head' keeps the others out of the picture"
    return f"{frames} frames, up to {faces} faces: the {who} one is followed{advice}"


def _find(picture: Tensor) -> list[Box]:
    """The faces of a picture; FaceNotFoundError when there is none."""
    faces = face_finder().find(picture.numpy())
    if not faces:
        raise FaceNotFoundError(0, "the portrait", "paint a mask over it, or crop the picture yourself")
    return faces


def _cut_portrait(
    picture: Tensor, crop: str, aspect: float, head: Box | None, face: Box | None
) -> tuple[Tensor, Tensor | None]:
    """The part of a picture to animate, and the given face box ``[4]`` in it.

    Args:
        aspect: width by height of the part.
        head: the face whose head is cut out where ``crop`` is "head".
        face: the box given by a mask.
    """
    height, width = picture.shape[:2]
    inside = None if face is None else torch.tensor(face)
    if crop == "none":
        return picture, inside
    square = centre_square(height, width) if crop == "centre" else head_square(head, height, width)
    part = _shape(square, aspect, height, width)
    if inside is not None:
        inside = inside - torch.tensor([part.x1, part.y1] * 2)
    return picture[part.y1 : part.y2, part.x1 : part.x2].contiguous(), inside


def _shape(square: Box, aspect: float, height: int, width: int) -> Box:
    """A square that is grown to a shape, and shrunk where the picture is too small for that."""
    side = square.x2 - square.x1
    wide, high = side * max(1.0, aspect), side * max(1.0, 1 / aspect)
    fit = min(1.0, width / wide, height / high)
    wide, high = max(1, round(wide * fit)), max(1, round(high * fit))
    left = min(max((square.x1 + square.x2 - wide) // 2, 0), width - wide)
    top = min(max((square.y1 + square.y2 - high) // 2, 0), height - high)
    return Box(left, top, left + wide, top + high)
