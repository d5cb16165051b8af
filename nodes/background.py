"""The node that puts something else behind the person of a stream."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..media.background import colour_of
from ..media.frames import AvatarStream
from ..media.portrait import fill
from ..sessions.background import with_background
from .schema import Node, schema
from .types import AvatarStreamType, BackgroundRemoval


class AvatarBackground(Node):
    """Composites each block over a colour or a picture while it is made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarBackground",
            search_aliases=["green screen", "chroma", "replace background", "matte", "composite"],
            display_name="Avatar Background",
            description=(
                "Puts a colour or a picture behind the person, while the video is made. Where the person is says a "
                "mask of the portrait, for a camera and a body that hardly move, or a background removal model, which "
                "looks at every frame."
            ),
            inputs=[
                AvatarStreamType.Input("stream", tooltip="From a sampler of any engine."),
                io.String.Input(
                    "colour", default="#00b140", tooltip="Behind the person where no picture is."
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="In place of the colour; fills the frame, cropped in the middle.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="1 where the person is: of the prepared portrait, or one for each frame.",
                ),
                BackgroundRemoval.Input(
                    "model",
                    optional=True,
                    tooltip="In place of a mask: from Load Background Removal Model. It looks at every frame.",
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Colours that are none are refused when the workflow is queued."""
        super().check(values)
        if "colour" in values:
            colour_of(values["colour"])

    @classmethod
    def execute(cls, stream: AvatarStream, colour: str, image=None, mask=None, model=None) -> io.NodeOutput:
        ground = colour_of(colour) if image is None else fill(image, stream.height, stream.width)[0]
        return io.NodeOutput(with_background(stream, ground, mask, model))
