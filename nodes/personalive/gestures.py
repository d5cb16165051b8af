"""PersonaLive: nodes that make motion without a video, and put motions together."""

from __future__ import annotations

from comfy_api.latest import io

from ...engines.personalive.gestures import GESTURES, gesture
from ...engines.personalive.pipeline import Portrait
from ...sessions.gestures import blended, chained
from ...sessions.personalive import Driving
from ..schema import MAX_SEED, Node, schema
from ..types import MotionType, PortraitType
from .load import CATEGORY

FPS = 25.0


class PersonaLiveHeadGesture(Node):
    """Moves a head by formula."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveHeadGesture",
            search_aliases=["nod", "shake head", "idle motion", "look left", "head pose"],
            display_name="PersonaLive Head Gesture",
            category=CATEGORY,
            description=(
                "Makes a motion without a video: the portrait's head nods, shakes, tilts, turns, is raised or idles, "
                "and comes back to where it was. The expression stays the portrait's; smiles and blinks come from a "
                "video by PersonaLive Extract Motion."
            ),
            inputs=[
                PortraitType.Input("portrait", tooltip="Whose head moves."),
                io.Combo.Input(
                    "gesture",
                    options=list(GESTURES),
                    tooltip="idle: slow small movements. turn: to a side and back. raise: up or down and back.",
                ),
                io.Float.Input(
                    "seconds", default=2.0, min=0.2, max=600.0, step=0.1, tooltip="Length of the gesture."
                ),
                io.Float.Input(
                    "degrees",
                    default=10.0,
                    min=-30.0,
                    max=30.0,
                    step=0.5,
                    tooltip="How far the head goes; a negative number goes to the other side.",
                ),
                io.Int.Input("times", default=2, min=1, max=20, tooltip="Of nod, shake and tilt."),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Of idle: another seed wanders in another way.",
                ),
            ],
            outputs=[MotionType.Output(display_name="motion"), io.Int.Output(display_name="frame count")],
        )

    @classmethod
    def execute(
        cls, portrait: Portrait, gesture: str, seconds: float, degrees: float, times: int, seed: int
    ) -> io.NodeOutput:
        return _given(_gestured(portrait, gesture, seconds, degrees, times, seed))


class PersonaLiveChainMotions(Node):
    """Puts one motion after another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveChainMotions",
            search_aliases=["concatenate motion", "motion sequence", "append"],
            display_name="PersonaLive Chain Motions",
            category=CATEGORY,
            description=(
                "One motion after another, with a smooth way between them. The second one is brought to the first "
                "one's frame rate; the sounds follow one another as well."
            ),
            inputs=[
                MotionType.Input("first", tooltip="From Extract Motion, Load Motion or Head Gesture."),
                MotionType.Input("second", tooltip="What follows it."),
                io.Float.Input(
                    "seconds_between",
                    default=0.4,
                    min=0.0,
                    max=10.0,
                    step=0.04,
                    tooltip="Length of the way from the first one's end to the second one's beginning.",
                ),
            ],
            outputs=[MotionType.Output(display_name="motion"), io.Int.Output(display_name="frame count")],
        )

    @classmethod
    def execute(cls, first: Driving, second: Driving, seconds_between: float) -> io.NodeOutput:
        return _given(chained(first, second, seconds_between))


class PersonaLiveBlendMotions(Node):
    """Mixes two motions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveBlendMotions",
            search_aliases=["mix motion", "combine expression", "retarget"],
            display_name="PersonaLive Blend Motions",
            category=CATEGORY,
            description=(
                "Two motions at once: by default the first one's expression with the second one's head, as to let "
                "somebody who speaks nod. The shorter one holds its last frame."
            ),
            inputs=[
                MotionType.Input("motion", tooltip="Gives the expression, the frame rate and the sound."),
                MotionType.Input("other", tooltip="Gives the head, or a share of both."),
                io.Float.Input(
                    "head",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the other motion in the pose of the head.",
                ),
                io.Float.Input(
                    "face",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the other motion in the expression.",
                ),
            ],
            outputs=[MotionType.Output(display_name="motion"), io.Int.Output(display_name="frame count")],
        )

    @classmethod
    def execute(cls, motion: Driving, other: Driving, head: float, face: float) -> io.NodeOutput:
        return _given(blended(motion, other, head, face))


def _gestured(
    portrait: Portrait, name: str, seconds: float, degrees: float, times: int, seed: int
) -> Driving:
    made = gesture(name, portrait.pose, portrait.tokens, seconds, FPS, degrees, times, seed)
    return Driving(made, FPS, None)


def _given(driving: Driving) -> io.NodeOutput:
    return io.NodeOutput(driving, len(driving.motion))
