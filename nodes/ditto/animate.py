"""Ditto: nodes that say how the person behaves, and make the video."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...host.progress import check_interrupt, show_text
from ...media.speech import LiveSpeech, Speech
from ...sessions.ditto import SPEEDS, Inputs, open_video
from ...sessions.ditto_look import BLINK_CHOICES, EMOTION_CHOICES, LIVE_STEPS, STEPS, Look, read_mix
from ..inputs import max_seconds as max_seconds_input
from ..inputs import seed as seed_input
from ..schema import Node, advanced, schema
from ..types import AvatarSpeech, AvatarStreamType, DittoLookType, DittoPortraitType, DittoType
from .load import CATEGORY


def strength(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.05, tooltip=tooltip)


def degrees(name: str, most: float, tooltip: str) -> io.Float.Input:
    return advanced(
        io.Float.Input(name, default=0.0, min=-most, max=most, step=0.5, optional=True, tooltip=tooltip)
    )


class DittoControls(Node):
    """How the person behaves."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DittoControls",
            search_aliases=["emotion", "expression", "gaze", "head pose", "blink"],
            display_name="Ditto Controls",
            category=CATEGORY,
            description="Emotion, strength of the movement, pose of the head, gaze and blinks for Ditto Animate.",
            inputs=[
                io.Combo.Input(
                    "emotion",
                    options=list(EMOTION_CHOICES),
                    tooltip=(
                        "natural: varies as in the published settings (without their file: neutral). The others last "
                        "for the whole video; with whole_face they show in brows and cheeks as well."
                    ),
                ),
                io.Float.Input(
                    "emotion_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the emotion there is; the rest is neutral. natural ignores it.",
                ),
                strength("mouth", "Strength of the lips' movement; 1 is as the model made it."),
                strength(
                    "head", "Strength of the head's movement; 0 keeps it still. A source video keeps its own."
                ),
                io.Combo.Input(
                    "blinks",
                    options=list(BLINK_CHOICES),
                    tooltip="random: every 2.4 to 4 seconds. with the speech: as the model moves the eyes. never.",
                ),
                io.Boolean.Input(
                    "whole_face",
                    default=False,
                    tooltip="Brows, cheeks and jaw move too. Off, as in the reference, lips and eyes do.",
                ),
                degrees("nod", 30.0, "Degrees by which the chin is lowered, or (below 0) raised."),
                degrees(
                    "turn",
                    30.0,
                    "Degrees that the head turns to the picture's left, or (below 0) to its right.",
                ),
                degrees("tilt", 30.0, "Degrees that the head leans to one shoulder, or (below 0) the other."),
                degrees(
                    "gaze_right", 15.0, "The eyes look to the right of the picture, or (below 0) to the left."
                ),
                degrees("gaze_up", 15.0, "The eyes look up, or (below 0) down."),
                degrees(
                    "eyes_open", 20.0, "Above 0 the eyes open wider, below 0 they narrow; -20 shuts them."
                ),
                advanced(
                    io.String.Input(
                        "mix",
                        default="",
                        optional=True,
                        tooltip=(
                            "Several emotions in place of one, with weights: happy 0.7, surprise 0.3. Empty: as "
                            "emotion says."
                        ),
                    )
                ),
            ],
            outputs=[DittoLookType.Output(display_name="controls")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """A mix that cannot be read is refused when the workflow is queued."""
        super().check(values)
        read_mix(values.get("mix", ""))

    @classmethod
    def execute(
        cls,
        emotion: str,
        emotion_strength: float,
        mouth: float,
        head: float,
        blinks: str,
        whole_face: bool,
        nod: float = 0.0,
        turn: float = 0.0,
        tilt: float = 0.0,
        gaze_right: float = 0.0,
        gaze_up: float = 0.0,
        eyes_open: float = 0.0,
        mix: str = "",
    ) -> io.NodeOutput:
        return io.NodeOutput(
            Look(
                emotion=emotion,
                share=emotion_strength,
                mouth=mouth,
                head=head,
                pitch=nod,
                yaw=turn,
                roll=tilt,
                gaze_right=gaze_right,
                gaze_up=gaze_up,
                eyes=eyes_open,
                blinks=blinks,
                whole_face=whole_face,
                mix=read_mix(mix),
            )
        )


class DittoAnimate(Node):
    """Describes the video; its frames are made while the stream is consumed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DittoAnimate",
            search_aliases=["talking head", "lip sync", "speech to video", "avatar", "sampler"],
            display_name="Ditto Animate",
            category=CATEGORY,
            description=(
                "Lets the portrait say the speech at 25 frames per second, for any length, finished or live. The "
                "stream is generated while the node after it writes or shows it: memory does not grow with the length."
            ),
            inputs=[
                DittoType.Input("ditto", tooltip="From Ditto Load Model."),
                DittoPortraitType.Input(
                    "portrait", tooltip="From Ditto Portrait; decides the size of the video."
                ),
                AvatarSpeech.Input(
                    "speech",
                    tooltip="From LiveAvatar Encode Speech or Live Speech; no audio encoder is needed.",
                ),
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100,
                    tooltip=f"Steps of the motion; 0: {STEPS}, for live speech {LIVE_STEPS}. Fewer are faster.",
                ),
                max_seconds_input(),
                advanced(
                    io.Combo.Input(
                        "speed",
                        options=list(SPEEDS),
                        optional=True,
                        tooltip=(
                            "plain: as PyTorch runs the networks. CUDA graphs: less work for the CPU, more GPU memory; "
                            "for NVIDIA GPUs."
                        ),
                    )
                ),
                DittoLookType.Input(
                    "controls", optional=True, tooltip="From Ditto Controls: emotion, pose, gaze, blinks."
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        ditto,
        portrait,
        speech: Speech | LiveSpeech,
        seed: int,
        steps: int,
        max_seconds: float,
        speed: str = SPEEDS[0],
        controls: Look | None = None,
    ) -> io.NodeOutput:
        stream = open_video(
            Inputs(ditto, portrait, speech, controls or Look()),
            seed,
            steps,
            max_seconds,
            speed,
            check_interrupt=check_interrupt,
            say=partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(stream)
