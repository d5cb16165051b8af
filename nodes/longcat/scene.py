"""LongCat: nodes that prepare the portrait, or the end of a video to go on from."""

from __future__ import annotations

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ...host.progress import show_text
from ...loaders.longcat import conditioning
from ...loaders.longcat.picture import fit_picture, fit_video, single_picture
from ...loaders.longcat.sizes import CHOICES, video_size
from ...loaders.wan.vae import vae_from_host
from ..schema import Node, schema
from .load import CATEGORY

NO_PICTURE = "Connect an image to LongCat Reference Image, or nothing to its prepared image: there is none."
SIDE = {"min": 64, "max": 2048, "step": 16}
SIZE_TIP = (
    "480p, 720p: the trained size whose shape is nearest to the picture's; without a picture to width x height. exact: "
    "width x height."
)


class LongCatReferenceImage(Node):
    """Prepares and encodes the portrait, or sets the size of a video from text alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LongCatReferenceImage",
            search_aliases=["portrait", "face", "avatar image", "text to video"],
            display_name="LongCat Reference Image",
            category=CATEGORY,
            description=(
                "Fits a portrait to the video's size, encodes it and adds it to the prompt. Without an image the "
                "prompt alone says what is seen."
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt; it should say that somebody talks."),
                io.Vae.Input("vae", tooltip="Wan 2.1's VAE."),
                io.Combo.Input("size", options=list(CHOICES), tooltip=SIZE_TIP),
                io.Int.Input("width", default=832, tooltip="In pixels.", **SIDE),
                io.Int.Input("height", default=480, tooltip="In pixels.", **SIDE),
                io.Image.Input(
                    "image", optional=True, tooltip="One portrait; the face should be well visible."
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Image.Output(display_name="prepared image"),
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, positive, vae, size: str, width: int, height: int, image=None) -> io.NodeOutput:
        picture = None if image is None else single_picture(image)
        given = (height, width) if picture is None or size == "exact" else picture.shape[:2]
        height, width = video_size(size, *given)
        show_text(f"{width} x {height}", cls.hidden)
        if picture is None:
            positive = conditioning.with_size(positive, height, width)
            return io.NodeOutput(positive, ExecutionBlocker(NO_PICTURE), width, height)
        pixels = fit_picture(picture, height, width)
        wan_vae = vae_from_host(vae).load()
        latent = wan_vae.encode(pixels[:, :, None])
        positive = conditioning.with_portrait(positive, wan_vae, latent, height, width)
        prepared = (pixels.permute(0, 2, 3, 1) + 1) / 2
        return io.NodeOutput(positive, prepared, width, height, ui=ui.PreviewImage(prepared, cls=cls))


class LongCatContinueVideo(Node):
    """Lets the video go on from the end of another one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LongCatContinueVideo",
            search_aliases=["extend video", "video continuation", "video to video"],
            display_name="LongCat Continue Video",
            category=CATEGORY,
            description=(
                "Lets the new video go on from the last half second of another one. Only new frames are made, and the "
                "speech begins with them. A portrait in the prompt keeps the person's likeness; without one the first "
                "of the frames does."
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt, or that of LongCat Reference Image."),
                io.Image.Input("frames", tooltip="The frames of the video to go on from."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="The frame rate of these frames; they are brought to the model's own.",
                ),
                io.Combo.Input(
                    "size", options=list(CHOICES), tooltip=f"{SIZE_TIP} A portrait's size counts more."
                ),
                io.Int.Input("width", default=832, tooltip="In pixels.", **SIDE),
                io.Int.Input("height", default=480, tooltip="In pixels.", **SIDE),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, positive, frames, fps: float, size: str, width: int, height: int) -> io.NodeOutput:
        given = (height, width) if size == "exact" else tuple(frames.shape[1:3])
        height, width = conditioning.size_of(positive) or video_size(size, *given)
        show_text(f"{width} x {height}", cls.hidden)
        past = fit_video(frames, height, width, conditioning.PAST_SECONDS, fps)
        return io.NodeOutput(conditioning.with_past(positive, past, fps), width, height)
