"""PersonaLive: the node that makes the video."""

from __future__ import annotations

from collections.abc import Iterator

import comfy.model_management
from comfy_api.latest import io
from torch import Tensor

from ..loaders.personalive_host import HostCodec
from ..media.audio import trim
from ..media.frames import AvatarStream
from ..personalive.config import StreamConfig
from ..personalive.pipeline import Portrait
from ..personalive.runtime import accelerate, plain
from .host import check_interrupt
from .personalive import CATEGORY, Model, PortraitType
from .personalive_motion import Driving, MotionType
from .sample import AvatarStreamType
from .schema import schema

# what is passed to accelerate(): torch.compile's mode, or None for CUDA graphs alone
SPEEDS = {"CUDA graphs": None, "compiled": "default"}
PLAIN = "plain"


class PersonaLiveAnimate(io.ComfyNode):
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
                Model.Input("personalive", tooltip="From PersonaLive Load Model."),
                PortraitType.Input("portrait", tooltip="Who moves; decides the size of the video."),
                MotionType.Input("motion", tooltip="How; decides length, frame rate and sound."),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=0xFFFFFFFF,
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
                    options=[PLAIN, *SPEEDS],
                    optional=True,
                    tooltip=(
                        "CUDA graphs: faster after about a second of preparation. compiled: fastest, after "
                        "minutes of preparation per size. Both need an NVIDIA GPU."
                    ),
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
        )

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
        speed: str = PLAIN,
    ) -> io.NodeOutput:
        config = StreamConfig(
            steps=steps,
            keyframe_threshold=keyframe_distance,
            max_keyframes=keyframes,
            motion_strength=expression,
            pose_strength=head_pose,
        )
        frames = min(len(motion.motion), max_frames or len(motion.motion))
        height, width = portrait.size
        if speed != PLAIN and isinstance(personalive.engine.codec, HostCodec):
            raise ValueError(
                f"The speed setting '{speed}' needs the checkpoint's own VAE; disconnect the host's."
            )
        if speed != PLAIN and comfy.model_management.get_torch_device().type != "cuda":
            raise ValueError(f"The speed setting '{speed}' needs an NVIDIA GPU; choose 'plain'.")

        def start() -> Iterator[Tensor]:
            engine = personalive.load(height, width)
            if speed != PLAIN:
                accelerate(engine, SPEEDS[speed])
            try:
                yield from engine.animate(
                    portrait.to(engine.device),
                    [motion.motion[:frames]],
                    config,
                    seed,
                    check_interrupt=check_interrupt,
                )
            finally:
                if speed != PLAIN:
                    # captured graphs point at weights that the host may move once this pass is over
                    plain(engine)

        audio = None if motion.audio is None else trim(motion.audio, seconds=frames / motion.fps)
        return io.NodeOutput(
            AvatarStream(start, frames=frames, width=width, height=height, fps=motion.fps, audio=audio)
        )
