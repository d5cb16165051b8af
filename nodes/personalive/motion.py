"""PersonaLive: nodes that read, keep and fetch motion."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ...engines.parts.face.boxes import CHOICES
from ...engines.personalive.driving import CROPS, MISSING
from ...engines.personalive.motion import Motion
from ...host.progress import check_interrupt, show_text
from ...loaders.personalive.host_objects import MOTION_SUFFIX, motion_names, motion_path
from ...media.audio import usable
from ...sessions.personalive import OPENCV, Driving, extract_motion
from ..output_names import new_file, place_for
from ..saving import SavingNode
from ..schema import Node, schema
from ..types import AvatarStreamType, MotionType, PersonaLiveType
from ..video_input import open_frames
from .load import CATEGORY

FINDERS = ("keypoints", OPENCV)


class PersonaLiveExtractMotion(Node):
    """Reads the movement for a portrait from a driving video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveExtractMotion",
            search_aliases=["driving video", "expression", "head pose", "face tracking"],
            display_name="PersonaLive Extract Motion",
            category=CATEGORY,
            description=(
                "Reads head movement and expression from a driving video, frame by frame: VIDEO, image "
                "frames or a LiveAvatar stream. The motion does not depend on the portrait and can be saved."
            ),
            inputs=[
                PersonaLiveType.Input("personalive", tooltip="From PersonaLive Load Model."),
                io.MultiType.Input(
                    "driving",
                    types=[io.Video, io.Image, AvatarStreamType],
                    tooltip="A video of one face, in about the framing of the portrait.",
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frame rate of image frames; a VIDEO or stream knows its own.",
                ),
                io.Combo.Input(
                    "crop",
                    options=list(CROPS),
                    tooltip=(
                        "centre: the largest square in the middle. head: a square around the head in the "
                        "first frame (needs OpenCV or face masks). none: the whole frame, stretched."
                    ),
                ),
                io.Combo.Input(
                    "finder",
                    options=list(FINDERS),
                    tooltip="keypoints: the model's own. opencv: also notices frames without a face.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=list(MISSING),
                    tooltip=(
                        "What happens at a frame without a face. stop: the run ends and names the frame. hold: the "
                        "last motion is held. skip: the frame and its sound are left out."
                    ),
                ),
                io.Int.Input(
                    "max_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Stop after this many frames; 0 reads all.",
                ),
                io.Combo.Input(
                    "who",
                    options=list(CHOICES),
                    optional=True,
                    tooltip="Where opencv finds several faces, the one that is followed.",
                ),
                io.Audio.Input(
                    "audio", optional=True, tooltip="Sound of image frames; a VIDEO brings its own."
                ),
                io.Mask.Input(
                    "faces", optional=True, tooltip="One face mask per frame, instead of a face finder."
                ),
            ],
            outputs=[MotionType.Output(display_name="motion"), io.Int.Output(display_name="frame count")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        personalive,
        driving,
        fps: float,
        crop: str,
        finder: str,
        no_face: str,
        max_frames: int,
        who: str = CHOICES[0],
        audio=None,
        faces=None,
    ) -> io.NodeOutput:
        audio = None if audio is None else usable(audio)
        video = open_frames(driving, fps, max_frames)
        found = extract_motion(
            personalive,
            video,
            audio,
            crop,
            finder,
            no_face,
            who,
            faces,
            check_interrupt,
            partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(found, len(found.motion))


class PersonaLiveSaveMotion(SavingNode):
    """Writes a motion to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveSaveMotion",
            search_aliases=["driving video", "keep motion"],
            display_name="PersonaLive Save Motion",
            category=CATEGORY,
            description="Keeps a motion in the output folder for later: 2 KB per frame, without the sound.",
            inputs=[
                MotionType.Input("motion", tooltip="From PersonaLive Extract Motion."),
                io.String.Input("filename_prefix", default="motion/PersonaLive", tooltip="Folder and name."),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, motion: Driving, filename_prefix: str) -> io.NodeOutput:
        place = place_for(filename_prefix, folder_paths.get_output_directory(), cls.hidden)
        path = new_file(place, MOTION_SUFFIX)
        motion.motion.save(path, motion.fps)
        return io.NodeOutput(ui=ui.PreviewText(str(Path(place.subfolder) / path.name)))


class PersonaLiveLoadMotion(Node):
    """Reads a motion from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveLoadMotion",
            search_aliases=["driving video", "saved motion"],
            display_name="PersonaLive Load Motion",
            category=CATEGORY,
            description="Reads a motion that PersonaLive Save Motion wrote, from the output or input folder.",
            inputs=[
                io.Combo.Input("file", options=motion_names(), tooltip="Files that end in " + MOTION_SUFFIX),
                io.Audio.Input("audio", optional=True, tooltip="Sound for the video; the file has none."),
            ],
            outputs=[MotionType.Output(display_name="motion"), io.Int.Output(display_name="frame count")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Files that are not there are refused when the workflow is queued."""
        file = values.get("file")
        if isinstance(file, str) and file.isprintable():
            motion_path(file)
        super().check(values)

    @classmethod
    def execute(cls, file: str, audio=None) -> io.NodeOutput:
        audio = None if audio is None else usable(audio)
        motion, fps = Motion.load(motion_path(file))
        return io.NodeOutput(Driving(motion, fps, audio), len(motion))
