"""Nodes that measure streams and videos."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ..evaluation import report
from ..evaluation.charts import charts_of
from ..evaluation.clip import open_video
from ..evaluation.instruments import Instruments, Subject
from ..evaluation.live import LiveMeasurement, Measured
from ..evaluation.measure import measure
from ..evaluation.picture import picture
from ..evaluation.subjects import layout_of, regions_in
from ..host.progress import Progress, check_interrupt, show_text
from ..loaders.personalive.host_objects import face_finder
from ..media.frames import AvatarStream
from ..media.portrait import colours
from .schema import Node, schema
from .types import AvatarStreamType

CATEGORY = "LiveAvatar/evaluation"
COMMAND = "Measure the file with python -m evaluation (docs/EVALUATION.md): this node has no network for it."
REMEDIES = {
    "face": "No face was found in the first frames; write its box into face.",
    "finder": "Write the box of the face into face, or install opencv-python-headless.",
    "dino": "Connect Load CLIP Vision with a DINOv2 file to dinov2.",
    "reference": "Connect the portrait to reference.",
    "layout": "Write the frames per block, per latent and the first block's first frame into blocks, such as 12,4,9.",
    "made": "Put Measure Stream behind the sampler: a finished video does not tell how it was made.",
    "sound": "The video has no sound.",
    **dict.fromkeys(("syncnet", "speaker", "writer", "qalign", "voice", "text", "language"), COMMAND),
}
"""What to do in a graph about something that is missing."""
CHART_SIZE = 1024
"""Pixels of the longer side of the charts on a node, whose numbers are to be read."""
SHOWN = (
    "T.Flicker",
    "block border",
    "sharpness drift",
    "colour drift",
    "FPS",
    "RTF",
    "first frame",
    "least buffer",
)


class AvatarMeasureStream(Node):
    """Measures a stream while it passes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarMeasureStream",
            search_aliases=["evaluation", "metrics", "quality", "benchmark", "fps"],
            display_name="Measure Stream",
            category=CATEGORY,
            description=(
                "Passes a stream on and measures it meanwhile: speed, change at block borders, sharpness, colours. The "
                "charts are shown on this node, and the numbers are written beside the video as <video>.metrics.jsonl. "
                "It never holds the stream up: when blocks come faster than they can be measured, some are left out."
            ),
            inputs=[
                AvatarStreamType.Input("stream", tooltip="The stream to measure."),
                io.Int.Input(
                    "frames_per_latent",
                    default=4,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Frames that the decoder makes of one latent; 4 with Wan's VAE, 1 with PersonaLive.",
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, stream: AvatarStream, frames_per_latent: int = 4) -> io.NodeOutput:
        return io.NodeOutput(_Shown(stream, frames_per_latent, cls.hidden).stream)


class _Shown(Measured):
    """A measured stream that shows its charts on a node."""

    def __init__(self, stream: AvatarStream, latent: int, hidden: Any) -> None:
        super().__init__(stream, latent)
        self._hidden = hidden
        self._progress, self._chart = Progress(hidden.unique_id, CHART_SIZE), None

    def passed(self, now: LiveMeasurement, block: Tensor) -> None:
        self._show(now)

    def ended(self, now: LiveMeasurement) -> None:
        self._show(now)
        if now.error is not None:
            logging.warning("LiveAvatar: Measure Stream has stopped measuring: %s", now.error)
            show_text(f"Stopped measuring: {now.error}", self._hidden)
        elif self.last is not None:
            values = {one.metric.name: one.value for one in self.last.scores if one.value is not None}
            lines = [f"{name}: {values[name]:.4g}" for name in SHOWN if name in values]
            if now.left_out:
                lines.append(f"{now.left_out} blocks came too fast to be measured")
            show_text("\n".join(lines), self._hidden)

    def _show(self, now: LiveMeasurement) -> None:
        chart = now.chart
        if chart is None or chart is self._chart:
            return
        self._chart = chart
        total = now.frames + 1 if self.stream.live else self.stream.frames
        self._progress(now.frames, total, torch.from_numpy(np.array(chart))[None])


class AvatarMeasureVideo(Node):
    """Measures a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarMeasureVideo",
            search_aliases=["evaluation", "metrics", "lip sync", "quality", "benchmark", "flicker"],
            display_name="Measure Video",
            category=CATEGORY,
            description=(
                "Measures a finished video: lip sync, identity, flicker, block borders, drift, blinks, pitch. What "
                "lacks a face, a reference or weights is skipped, and the JSON says why."
            ),
            inputs=[
                io.Video.Input("video", tooltip="The video to measure, with its sound."),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="The portrait, for identity; the first picture of a batch.",
                ),
                io.ClipVision.Input(
                    "dinov2",
                    optional=True,
                    tooltip="Load CLIP Vision with a DINOv2 file, for Dino-S; without it, Dino-S is skipped.",
                ),
                io.String.Input(
                    "face",
                    default="",
                    optional=True,
                    tooltip=(
                        "Left, top, right and bottom of the face in parts of the frame, such as 0.3,0.1,0.7,0.6. "
                        "Empty: OpenCV looks for it where it is installed."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    optional=True,
                    tooltip=(
                        "Frames per block, per latent, and the first frame of a block: 12,4,9 for LiveAvatar. Empty: "
                        "borders of blocks are not looked at."
                    ),
                ),
            ],
            outputs=[io.String.Output(display_name="json"), io.Image.Output(display_name="charts")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Numbers that make no box and no blocks are refused when the workflow is queued."""
        super().check(values)
        if values.get("face"):
            regions_in({"face": _numbers(values["face"], "face", float)}, 1000, 1000)
        if values.get("blocks"):
            layout_of(_numbers(values["blocks"], "blocks", int))

    @classmethod
    def execute(
        cls, video: Any, reference=None, dinov2=None, face: str = "", blocks: str = ""
    ) -> io.NodeOutput:
        clip = open_video(video)
        subject = Subject(
            reference=None if reference is None else _bytes(reference[:1])[0],
            regions=regions_in({"face": _numbers(face, "face", float)}, clip.width, clip.height)
            if face
            else None,
            layout=layout_of(_numbers(blocks, "blocks", int)) if blocks else None,
        )
        tools = Instruments(
            finder=None if face else _finder(),
            dino=None if dinov2 is None else HostDino(dinov2),
            remedies=REMEDIES,
        )
        progress = Progress()

        def step(done: int, total: int) -> None:
            check_interrupt()
            progress(done, total)

        found = measure(clip, subject, tools, step)
        told = {name: value for name, value in report.as_json(found).items() if name != "charts"}
        charts = torch.from_numpy(np.array(picture(charts_of(found)))).float() / 255
        return io.NodeOutput(json.dumps(told, indent=1), charts[None])


class HostDino:
    """The host's DINOv2 as `evaluation.readers.dino.Dino`; it looks at pictures in the size of its own file."""

    def __init__(self, clip_vision: Any) -> None:
        """ValueError for a CLIP_VISION of another kind, whose cosines mean something else."""
        kind = type(getattr(clip_vision, "model", None)).__name__
        if kind != "Dinov2Model":
            raise ValueError(f"Load a DINOv2 file with Load CLIP Vision: this is {kind}.")
        self._model = clip_vision

    def embed(self, pictures: Tensor) -> Tensor:
        """Unit vectors ``[F, D]`` of uint8 pictures ``[F, H, W, 3]``."""
        seen = self._model.encode_image(pictures.float() / 255)["last_hidden_state"]
        return F.normalize(seen[:, 0].float().cpu(), dim=1)


def _finder() -> Any:
    try:
        return face_finder()
    except (ImportError, FileNotFoundError):  # the scores that need a face say what to do
        return None


def _bytes(pictures: Tensor) -> Tensor:
    return (colours(pictures).clamp(0, 1) * 255).round().to(torch.uint8)


def _numbers(text: str, name: str, kind: type) -> list:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"Write {name} as numbers with commas between them: it is {text!r:.60}.") from error
