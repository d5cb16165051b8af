"""The node that gives a video further prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...loaders.liveavatar.moods import Mood, check_name, read_spans, with_mood
from ..schema import Node, schema
from ..types import AvatarMoods


class LiveAvatarMood(Node):
    """One more prompt, with a name and times."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarMood",
            search_aliases=["emotion", "prompt schedule", "happy", "expression", "prompt travel"],
            display_name="LiveAvatar Mood",
            description=(
                "A further prompt for LiveAvatar Sampler. Each block of 0.48 s is made with one prompt: the mood whose "
                "time it is, the one that live speech asks for, or else the sampler's own. Connect several in a row."
            ),
            inputs=[
                io.Conditioning.Input(
                    "positive",
                    tooltip="The whole prompt in this mood, from CLIP Text Encode. It needs no portrait.",
                ),
                io.String.Input(
                    "name",
                    default="happy",
                    tooltip="Live speech and language models ask for the mood by this name.",
                ),
                io.String.Input(
                    "times",
                    default="",
                    tooltip="Seconds of the video, such as 2-4.5, 8-. Empty: only when it is asked for.",
                ),
                AvatarMoods.Input("moods", optional=True, tooltip="From another LiveAvatar Mood."),
            ],
            outputs=[AvatarMoods.Output(display_name="moods")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Names and times that cannot be read are refused when the workflow is queued."""
        super().check(values)
        if "name" in values:
            check_name(values["name"])
        read_spans(values.get("times", ""))

    @classmethod
    def execute(cls, positive, name: str, times: str, moods: tuple[Mood, ...] = ()) -> io.NodeOutput:
        return io.NodeOutput(with_mood(moods, name, positive, times))
