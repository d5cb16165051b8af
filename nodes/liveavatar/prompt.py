"""The node that writes a prompt from choices."""

from __future__ import annotations

from comfy_api.latest import io

from ...loaders.liveavatar.prompts import (
    EMOTIONS,
    ENERGY,
    GAZE,
    HANDS,
    HEAD,
    LIGHT,
    SHOT,
    STYLE,
    Choices,
    write_prompt,
)
from ..schema import Node, schema


class LiveAvatarPromptPreset(Node):
    """Writes what the model has to read: who is seen, what the face does, how the body moves, camera and light."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        usual = Choices()

        def choice(name: str, table: dict[str, str], tooltip: str) -> io.Combo.Input:
            return io.Combo.Input(name, options=list(table), default=getattr(usual, name), tooltip=tooltip)

        return schema(
            node_id="LiveAvatarPromptPreset",
            search_aliases=["emotion", "expression", "style", "prompt builder", "mood"],
            display_name="LiveAvatar Prompt Preset",
            description=(
                "Writes a prompt from choices. The model follows what the prompt says the face and the body do while "
                "the person speaks. Connect it to the text of CLIP Text Encode; one for each LiveAvatar Mood."
            ),
            inputs=[
                io.String.Input(
                    "who",
                    default=usual.who,
                    tooltip="The person in the picture: A woman with short grey hair.",
                ),
                io.String.Input(
                    "clothes", default="", tooltip="A dark blue suit. Empty: nothing is said of them."
                ),
                io.String.Input(
                    "place", default="", tooltip="In a bright office. Empty: nothing is said of it."
                ),
                choice("emotion", EMOTIONS, "What the face does while the person speaks."),
                choice("energy", ENERGY, "How large and fast all movements are."),
                choice("head", HEAD, "How the head moves."),
                choice("hands", HANDS, "What the hands do; they have to be in the picture."),
                choice("gaze", GAZE, "Where the eyes look."),
                choice(
                    "shot",
                    SHOT,
                    "How much of the person is in the picture. It has to be true of the portrait.",
                ),
                choice("light", LIGHT, "It has to be true of the portrait."),
                choice("style", STYLE, "It has to be true of the portrait."),
                io.String.Input(
                    "more",
                    default="",
                    optional=True,
                    tooltip="Your own sentences, at the end.",
                ),
            ],
            outputs=[io.String.Output(display_name="prompt")],
        )

    @classmethod
    def execute(cls, **chosen: str) -> io.NodeOutput:
        return io.NodeOutput(write_prompt(Choices(**chosen)))
