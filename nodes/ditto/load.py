"""Ditto: nodes that load the networks and prepare who speaks."""

from __future__ import annotations

from functools import partial

import comfy.model_management
import torch
from comfy_api.latest import io, ui

from ...engines.parts.face.boxes import CHOICES
from ...host.progress import Progress, check_interrupt, show_text
from ...loaders.ditto.files import find_files
from ...loaders.ditto.host_objects import CHECKPOINTS, liveportrait_folders, open_ditto
from ...loaders.onnx.choice import BACKENDS, RUNTIME
from ...loaders.onnx.runtime import require_onnxruntime
from ...sessions.ditto_source import LONGEST, prepare_source
from ..schema import Node, advanced, schema
from ..types import AvatarStreamType, DittoPortraitType, DittoType
from ..video_input import open_frames

CATEGORY = "LiveAvatar/Ditto"
DTYPES = {"auto": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SOURCE_FRAMES = 250
"""Frames of a source video that are read unless another number is asked for; each takes 6 to 10 MB."""


class DittoLoadModel(Node):
    """Loads all networks of Ditto."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DittoLoadModel",
            search_aliases=[
                "talking head",
                "talking portrait",
                "lip sync",
                "speech to video",
                "live portrait",
            ],
            display_name="Ditto Load Model",
            category=CATEGORY,
            description=(
                "Loads Ditto, which lets a photograph speak on small GPUs, from a folder in models/ditto or from the "
                "Hugging Face hub, with the networks that hear and find faces."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=CHECKPOINTS.checkpoints(),
                    tooltip="A folder in models/ditto in the published layout, or the published model.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(DTYPES),
                    tooltip="Number format of what draws. auto: fp16 on a GPU, fp32 on a CPU.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip=(
                        "Allow fetching missing files from the Hugging Face hub (2.3 GB). An interrupted download goes "
                        "on where it stopped."
                    ),
                ),
                advanced(
                    io.Combo.Input(
                        "onnx",
                        options=list(BACKENDS),
                        optional=True,
                        tooltip=(
                            "What computes the networks that hear and find faces, which are published as ONNX files. "
                            "auto: PyTorch, or onnxruntime for what it cannot, which the log says."
                        ),
                    )
                ),
            ],
            outputs=[DittoType.Output(display_name="ditto")],
        )

    @classmethod
    def execute(
        cls, checkpoint: str, precision: str, download: bool, onnx: str = BACKENDS[0]
    ) -> io.NodeOutput:
        if onnx == RUNTIME:
            require_onnxruntime()  # said before anything is fetched
        files = find_files(
            CHECKPOINTS.source(checkpoint),
            CHECKPOINTS.roots(),
            download,
            Progress(),
            liveportrait=liveportrait_folders(),
        )
        on_cpu = comfy.model_management.is_device_cpu(comfy.model_management.get_torch_device())
        return io.NodeOutput(
            open_ditto(files, DTYPES[precision] or (torch.float32 if on_cpu else torch.float16), graphs=onnx)
        )


class DittoPortrait(Node):
    """Finds the face of the person who speaks, and prepares everything that does not depend on the speech."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DittoPortrait",
            search_aliases=["reference image", "face", "photo", "source video", "avatar image"],
            display_name="Ditto Portrait",
            category=CATEGORY,
            description=(
                "Takes a photograph, or a video, of the person who speaks. The whole picture stays as it is; the face "
                "in it moves. A video keeps its own movement and gets new lips."
            ),
            inputs=[
                DittoType.Input("ditto", tooltip="From Ditto Load Model."),
                io.MultiType.Input(
                    "source",
                    types=[io.Image, io.Video, AvatarStreamType],
                    tooltip="A picture; or a video, of which several images are frames too.",
                ),
                io.Combo.Input(
                    "who",
                    options=list(CHOICES),
                    tooltip="In a picture with several faces, the one that speaks.",
                ),
                io.Int.Input(
                    "max_size",
                    default=LONGEST,
                    min=64,
                    max=8192,
                    step=2,
                    tooltip="Most pixels of the video's longer side. Smaller pictures keep their size.",
                ),
                advanced(
                    io.Int.Input(
                        "max_frames",
                        default=SOURCE_FRAMES,
                        min=0,
                        max=1_000_000,
                        optional=True,
                        tooltip=(
                            "Frames of a source video, which is played forwards and backwards; each takes 6 to 10 MB "
                            "of memory. 0: all."
                        ),
                    )
                ),
                advanced(
                    io.Float.Input(
                        "fps",
                        default=25.0,
                        min=1.0,
                        max=240.0,
                        step=0.001,
                        optional=True,
                        tooltip="Frame rate of several images; a VIDEO knows its own.",
                    )
                ),
                io.Mask.Input(
                    "face",
                    optional=True,
                    tooltip="A mask painted over the face, where none is found: drawings, animals.",
                ),
            ],
            outputs=[
                DittoPortraitType.Output(display_name="portrait"),
                io.Image.Output(display_name="what the model sees"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        ditto,
        source,
        who: str,
        max_size: int,
        max_frames: int = SOURCE_FRAMES,
        fps: float = 25.0,
        face=None,
    ) -> io.NodeOutput:
        portrait, square = prepare_source(
            ditto,
            open_frames(source, fps, sound=False),
            who=who,
            face=face,
            longest=max_size,
            max_frames=max_frames,
            check_interrupt=check_interrupt,
            say=partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(portrait, square[None], ui=ui.PreviewImage(square[None], cls=cls))
