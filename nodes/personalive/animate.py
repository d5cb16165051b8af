"""PersonaLive: the node that makes the video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...engines.personalive.config import StreamConfig
from ...engines.personalive.pipeline import Portrait
from ...host.progress import check_interrupt
from ...sessions.personalive import Driving, open_animation
from ...sessions.residence import AUTO, CHOICES
from ..inputs import seed as seed_input
from ..schema import Node, schema
from ..types import AvatarStreamType, MotionType, PersonaLiveType, PortraitType
from .load import CATEGORY


class PersonaLiveAnimate(Node):
    """Describes the video; its frames are made while the stream is consumed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveAnimate",
            search_aliases=["portrait animation", "face reenactment", "live portrait", "puppet", "sampler"],
            display_name="PersonaLive Animate",
            category=CATEGORY,
            description=(
                "Makes the portrait follow the motion, four frames at a time, for any length. The stream is "
                "generated while the node after it writes or shows it: memory does not grow with the length."
            ),
            inputs=[
                PersonaLiveType.Input("personalive", tooltip="From PersonaLive Load Model."),
                PortraitType.Input(
                    "portrait", tooltip="The person who moves; decides the size of the video."
                ),
                MotionType.Input("motion", tooltip="The movement; decides length, frame rate and sound."),
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=4,
                    max=32,
                    step=4,
                    tooltip="Denoising steps; the model is made for 4.",
                ),
                io.Float.Input(
                    "expression",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 follows the driving expression, 0 keeps the portrait's.",
                ),
                io.Float.Input(
                    "head_pose",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 follows the driving head, 0 keeps the portrait's head still.",
                ),
                io.Int.Input(
                    "max_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Stop after this many frames; 0 is the whole motion.",
                ),
                io.Int.Input(
                    "keyframes",
                    default=3,
                    min=0,
                    max=3,
                    optional=True,
                    tooltip=(
                        "Number of frames that are remembered, so that an expression looks the same when it comes "
                        "back; each costs time."
                    ),
                ),
                io.Float.Input(
                    "keyframe_distance",
                    default=17.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    optional=True,
                    tooltip="An expression is remembered if it differs by this much from all that are remembered.",
                ),
                io.Combo.Input(
                    "speed",
                    options=list(CHOICES),
                    optional=True,
                    tooltip=(
                        "auto: fused kernels, and CUDA graphs where they work, on an NVIDIA GPU; elsewhere like plain. "
                        "plain: as PyTorch runs the networks. compiled: torch.compile, after minutes of preparation, "
                        "once per size."
                    ),
                ),
                io.Boolean.Input(
                    "lead_in",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Also show the 12 frames before the video, in which the portrait moves from its own pose to "
                        "the first driving frame; the sound waits for them."
                    ),
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Steps that do not fit the window are refused when the workflow is queued, not once the model is loaded."""
        super().check(values)
        if "steps" in values:
            StreamConfig(steps=values["steps"])

    @classmethod
    def execute(
        cls,
        personalive,
        portrait: Portrait,
        motion: Driving,
        seed: int,
        steps: int,
        expression: float,
        head_pose: float,
        max_frames: int,
        keyframes: int = 3,
        keyframe_distance: float = 17.0,
        speed: str = AUTO,
        lead_in: bool = False,
    ) -> io.NodeOutput:
        config = StreamConfig(
            steps=steps,
            keyframe_threshold=keyframe_distance,
            max_keyframes=keyframes,
            motion_strength=expression,
            pose_strength=head_pose,
        )
        stream = open_animation(
            personalive,
            portrait,
            motion,
            config,
            seed,
            max_frames=max_frames,
            speed=speed,
            lead_in=lead_in,
            check_interrupt=check_interrupt,
        )
        return io.NodeOutput(stream)
