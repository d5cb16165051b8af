"""PersonaLive: the node that makes the video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...engines.personalive.config import StreamConfig
from ...engines.personalive.pipeline import Portrait
from ...host.progress import check_interrupt
from ...media.audio import pad, trim
from ...media.frames import AvatarStream
from ...sessions.personalive import AUTO, CHOICES, Residence, check_speed
from ..schema import MAX_SEED, Node, schema
from ..types import AvatarStreamType, MotionType, PersonaLiveType, PortraitType
from .load import CATEGORY
from .motion import Driving


class PersonaLiveAnimate(Node):
    """Describes the video; frames are made as the stream is consumed."""

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
                PortraitType.Input("portrait", tooltip="Who moves; decides the size of the video."),
                MotionType.Input("motion", tooltip="How; decides length, frame rate and sound."),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video on the same device.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=4,
                    max=32,
                    step=4,
                    tooltip="Denoising steps; 4 is what the model is made for.",
                ),
                io.Float.Input(
                    "expression",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 keeps the portrait's expression.",
                ),
                io.Float.Input(
                    "head_pose",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 keeps the portrait's head still.",
                ),
                io.Int.Input(
                    "max_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Stop after this many; 0 is the whole motion.",
                ),
                io.Int.Input(
                    "keyframes",
                    default=3,
                    min=0,
                    max=3,
                    optional=True,
                    tooltip="Frames remembered to keep new expressions the same later; each costs time.",
                ),
                io.Float.Input(
                    "keyframe_distance",
                    default=17.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    optional=True,
                    tooltip="How different an expression must be from those remembered.",
                ),
                io.Combo.Input(
                    "speed",
                    options=list(CHOICES),
                    optional=True,
                    tooltip=(
                        "auto: fused kernels, and CUDA graphs where they work, on an NVIDIA GPU; else plain. "
                        "compiled: after minutes of preparation, once per size."
                    ),
                ),
                io.Boolean.Input(
                    "lead_in",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Also show the 12 frames before the video in which the portrait moves from its own "
                        "pose to the first driving frame; the sound waits for them."
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
        length = min(len(motion.motion), max_frames or len(motion.motion))
        height, width = portrait.size
        check_speed(speed, personalive)

        def start() -> Iterator[Tensor]:
            here = Residence(personalive, speed, height, width, check_interrupt)
            try:
                yield from here.engine.animate(
                    portrait.to(here.engine.device),
                    [motion.motion[:length]],
                    config,
                    seed,
                    lead_in=lead_in,
                    check_interrupt=here.check,
                )
            finally:
                here.leave()

        frames, audio = length, motion.audio
        if audio is not None:
            audio = trim(audio, seconds=length / motion.fps)
        if lead_in:
            frames += config.ramp
            audio = None if audio is None else pad(audio, before_seconds=config.ramp / motion.fps)
        return io.NodeOutput(
            AvatarStream(start, frames=frames, width=width, height=height, fps=motion.fps, audio=audio)
        )
