"""PersonaLive: nodes that read, keep and fetch motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ...engines.parts.face.boxes import CHOICES, mask_boxes
from ...engines.personalive.driving import CROPS, MISSING, SIZE, driving_motion
from ...engines.personalive.motion import Motion
from ...host.progress import check_interrupt, show_text
from ...loaders.personalive.host_objects import MOTION_SUFFIX, face_finder, motion_names, motion_path
from ...media.audio import usable
from ...media.driving import open_driving, sound_of_frames
from ..names import check_prefix
from ..output_names import fill_in, new_file, place_for
from ..schema import Node, schema
from ..types import AvatarStreamType, MotionType, PersonaLiveType
from .load import CATEGORY, check_masks

FINDERS = ("keypoints", "opencv")


@dataclass(frozen=True)
class Driving:
    """A motion in a graph: with the rate and the sound of the video it came from."""

    motion: Motion
    fps: float
    audio: dict | None


class PersonaLiveExtractMotion(Node):
    """What the portrait is to do."""

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
                    tooltip="One face, in about the framing of the portrait.",
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
                    tooltip="keypoints: the model's own. opencv: also notices that there is no face.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=list(MISSING),
                    tooltip=(
                        "Frames without a face: stop and name it, hold the last motion, or skip them with "
                        "their sound."
                    ),
                ),
                io.Int.Input(
                    "max_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Stop after this many; 0 reads all.",
                ),
                io.Combo.Input(
                    "who",
                    options=list(CHOICES),
                    optional=True,
                    tooltip="Whom opencv follows where it finds several faces.",
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
        if isinstance(driving, InputImpl.VideoFromComponents):  # has its frames already, and no file
            made = driving.get_components()
            driving, fps, audio = made.images, float(made.frame_rate), audio or made.audio
        audio = audio and usable(audio)
        video = open_driving(driving, fps, max_frames, folder_paths.get_temp_directory(), check_interrupt)
        boxes = None if faces is None else mask_boxes(faces)
        looking = boxes is None and (finder == "opencv" or crop == "head")

        def blocks() -> Iterator[Tensor]:
            ready = personalive.load  # after the first block: a stream has loaded its own models by then
            for block in video.blocks():
                if faces is not None:
                    check_masks(faces, *block.shape[1:3])
                ready(SIZE, SIZE)
                ready = personalive.bring_back
                yield block

        parts: list[Motion] = []
        frames: list[int] = []
        for part in driving_motion(
            personalive.engine,
            blocks(),
            crop=crop,
            finder=face_finder() if looking else None,
            boxes=boxes,
            who=who,
            missing=no_face,
            check_interrupt=check_interrupt,
        ):
            parts.append(part.motion.to("cpu"))
            frames += part.frames
            show_text(_progress(len(frames), part.faces, who, crop), cls.hidden)
        sound = audio or video.audio
        if sound is not None:
            sound = sound_of_frames(sound, frames, video.fps)
        return io.NodeOutput(Driving(Motion.concat(parts), video.fps, sound), len(frames))


def _progress(frames: int, faces: int, who: str, crop: str) -> str:
    """What the node shows while it runs."""
    if faces < 2:
        return f"{frames} frames"
    advice = "" if crop == "head" else "; crop 'head' keeps the others out of the picture"
    return f"{frames} frames, up to {faces} faces: the {who} one is followed{advice}"


class PersonaLiveSaveMotion(Node):
    """A motion as a file."""

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
    def check(cls, values: dict[str, Any]) -> None:
        """Names that no file can have are refused when the workflow is queued."""
        super().check(values)
        if "filename_prefix" in values:
            check_prefix(values["filename_prefix"])

    @classmethod
    def fingerprint_inputs(cls, filename_prefix: str | None = None, **_) -> str:
        """Another date in the name is another file, even if nothing else has changed."""
        return fill_in(filename_prefix or "", None)

    @classmethod
    def execute(cls, motion: Driving, filename_prefix: str) -> io.NodeOutput:
        place = place_for(filename_prefix, folder_paths.get_output_directory(), cls.hidden)
        path = new_file(place, MOTION_SUFFIX)
        motion.motion.save(path, motion.fps)
        return io.NodeOutput(ui=ui.PreviewText(str(Path(place.subfolder) / path.name)))


class PersonaLiveLoadMotion(Node):
    """A motion from a file."""

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
        audio = audio and usable(audio)
        motion, fps = Motion.load(motion_path(file))
        return io.NodeOutput(Driving(motion, fps, audio), len(motion))
