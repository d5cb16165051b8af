"""The node that makes a portrait ready for any engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..engines.parts.face.boxes import (
    CHOICES,
    YUNET_FILE,
    Face,
    FaceFinder,
    check_masks,
    mask_boxes,
    painted_box,
)
from ..engines.parts.face.framing import Framing
from ..engines.parts.face.portrait import make_ready
from ..host.progress import check_interrupt, show_text
from ..loaders.personalive.host_objects import face_finder
from ..loaders.wan.vae import is_small, vae_from_host
from ..media.portrait import MIN_SIDE, colours, is_drawn
from .liveavatar.condition import PHOTOGRAPH
from .schema import Node, schema

FINE = "The portrait is fine."
NOT_LEVEL = (
    f"Put {YUNET_FILE} into models/personalive, or switch level off: nobody knows where the eyes are, so they were not "
    "made level."
)
NOT_LEVEL_PAINTED = (
    "Switch level off, or disconnect face: a mask does not say where the eyes are, so they were "
    "not made level."
)


class AvatarPreparePortrait(Node):
    """Cuts a portrait around its head, evens out the light, and says what is wrong with it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarPreparePortrait",
            search_aliases=[
                "crop face",
                "head crop",
                "align eyes",
                "photo check",
                "white balance",
                "portrait",
            ],
            display_name="Prepare Portrait",
            description=(
                "Cuts a picture around the head, makes the eyes level, evens out colour and light, and says in words "
                "what would spoil the video: a small, turned, blurred or dark face, an open mouth, several people. For "
                "every engine of this pack."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The picture, with one person well visible."),
                io.Int.Input(
                    "width", default=512, min=64, max=2048, step=64, tooltip="Of the portrait, in pixels."
                ),
                io.Int.Input(
                    "height", default=512, min=64, max=2048, step=64, tooltip="Of the portrait, in pixels."
                ),
                io.Float.Input(
                    "head",
                    default=0.4,
                    min=0.25,
                    max=0.6,
                    step=0.01,
                    tooltip="Height of the head, from chin to hair, as a part of the portrait's height.",
                ),
                io.Float.Input(
                    "headroom",
                    default=0.12,
                    min=0.0,
                    max=0.3,
                    step=0.01,
                    tooltip="What is left above the head, as a part of the portrait's height.",
                ),
                io.Float.Input(
                    "light",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much a colour cast, and a face that is too dark or bright, are evened out. 0: not.",
                ),
                io.Boolean.Input(
                    "level",
                    default=True,
                    tooltip=(
                        "Turn the picture so that the eyes are level. Needs face_detection_yunet_2023mar.onnx in "
                        "models/personalive."
                    ),
                ),
                io.Combo.Input(
                    "who",
                    options=list(CHOICES),
                    optional=True,
                    tooltip="The one of several faces that is taken.",
                ),
                io.Mask.Input(
                    "face", optional=True, tooltip="A mask painted over the face, where none is found."
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Of LiveAvatar: says whether the tiny talker, which knows drawn faces, knows such a one.",
                ),
            ],
            outputs=[io.Image.Output(display_name="portrait"), io.String.Output(display_name="words")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        image,
        width: int,
        height: int,
        head: float,
        headroom: float,
        light: float,
        level: bool,
        who: str = CHOICES[0],
        face=None,
        vae=None,
    ) -> io.NodeOutput:
        pictures = colours(image).clamp(0, 1)
        if min(pictures.shape[1:3]) < MIN_SIDE:
            raise ValueError(
                f"Use a larger picture: this one has {pictures.shape[2]}x{pictures.shape[1]} pixels, and {MIN_SIDE} a "
                "side are needed."
            )
        if face is not None:
            check_masks(face, *pictures.shape[1:3])
        look = _painted(mask_boxes(face)) if face is not None else _found(face_finder())
        framing = Framing(head, headroom, level)
        drawn_only = vae is not None and is_small(vae_from_host(vae).vae)
        portraits, said, eyes = [], [], False
        for number, picture in enumerate(pictures):
            check_interrupt()
            before = f"Picture {number + 1}: " if len(pictures) > 1 else ""
            try:
                faces = look(number, picture)
                made = make_ready(picture, faces, who, framing, height, width, light)
            except ValueError as error:
                raise ValueError(f"{before}{error}") from error
            portraits.append(made.picture)
            eyes |= any(one.points is not None for one in faces)
            words = [*made.words, *([PHOTOGRAPH] if drawn_only and not is_drawn(picture[None]) else [])]
            said += [before + sentence for sentence in words or [FINE]]
        if level and not eyes:
            said.append(NOT_LEVEL if face is None else NOT_LEVEL_PAINTED)
        words = "\n".join(said)
        show_text(words, cls.hidden)
        shown = torch.stack(portraits)
        return io.NodeOutput(shown, words, ui=ui.PreviewImage(shown, cls=cls))


Look = Callable[[int, Tensor], list[Face]]
"""The faces of a picture [H, W, 3] from 0 to 1, by its number."""


def _found(finder: FaceFinder) -> Look:
    return lambda number, picture: finder.look((picture * 255).byte().numpy())


def _painted(boxes: Tensor) -> Look:
    """One of `mask_boxes` for each picture; the last one counts for those that have none."""
    return lambda number, picture: [Face(painted_box(boxes[min(number, len(boxes) - 1)]))]
