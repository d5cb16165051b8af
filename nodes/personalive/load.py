"""PersonaLive: nodes that load the networks and prepare the portrait."""

from __future__ import annotations

from functools import partial

import comfy.model_management
import torch
from comfy_api.latest import io, ui

from ...engines.parts.face.boxes import CHOICES
from ...engines.personalive.driving import CROPS
from ...host.progress import Progress, check_interrupt, show_text
from ...loaders.personalive.files import find_files
from ...loaders.personalive.host_objects import (
    CHECKPOINTS,
    HostClip,
    HostCodec,
    ManagedPersonaLive,
)
from ...sessions.personalive import prepare_portraits
from ..schema import Node, schema
from ..types import PersonaLiveType, PortraitType

CATEGORY = "LiveAvatar/PersonaLive"
DECODERS = ("full VAE", "tiny VAE")
DTYPES = {"auto": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class PersonaLiveLoadModel(Node):
    """Loads all networks of PersonaLive."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLiveLoadModel",
            search_aliases=["portrait animation", "face reenactment", "expression transfer", "live portrait"],
            display_name="PersonaLive Load Model",
            category=CATEGORY,
            description=(
                "Loads PersonaLive from a folder in models/personalive or from the Hugging Face hub. The VAE "
                "and the CLIP vision model come with it; connect the host's own to use those instead. The "
                "weights are for academic research only."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=CHECKPOINTS.checkpoints(),
                    tooltip="A folder in models/personalive with the six weight files (.pth, .safetensors).",
                ),
                io.Combo.Input(
                    "precision", options=list(DTYPES), tooltip="auto: fp16 on a GPU, fp32 on a CPU."
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip=(
                        "Allow fetching missing files from the Hugging Face hub (about 10 GB). An "
                        "interrupted download goes on where it stopped."
                    ),
                ),
                io.Combo.Input(
                    "decoder",
                    options=list(DECODERS),
                    optional=True,
                    tooltip="The tiny VAE (madebyollin/taesd) is faster and a little softer.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Stable Diffusion 1.x's VAE (vae-ft-mse) instead of the folder's.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 with projection instead of the folder's.",
                ),
            ],
            outputs=[PersonaLiveType.Output(display_name="personalive")],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        precision: str,
        download: bool,
        decoder: str = DECODERS[0],
        vae=None,
        clip_vision=None,
    ) -> io.NodeOutput:
        from ...loaders.personalive.networks import load_personalive  # brings diffusers in

        source = CHECKPOINTS.source(checkpoint)
        codec = None if vae is None else HostCodec(vae)
        clip = None if clip_vision is None else HostClip(clip_vision)
        files = find_files(
            source,
            CHECKPOINTS.roots(),
            download,
            Progress(),
            need_vae=codec is None,
            need_clip=clip is None,
            tiny_vae=decoder != DECODERS[0],
        )
        on_cpu = comfy.model_management.is_device_cpu(comfy.model_management.get_torch_device())
        dtype = DTYPES[precision] or (torch.float32 if on_cpu else torch.float16)
        engine = load_personalive(files, dtype, codec=codec, image_encoder=clip)
        return io.NodeOutput(ManagedPersonaLive(engine))


class PersonaLivePortrait(Node):
    """Prepares the portrait that is animated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PersonaLivePortrait",
            search_aliases=["reference image", "face", "crop head", "who is animated"],
            display_name="PersonaLive Portrait",
            category=CATEGORY,
            description=(
                "Prepares the portrait to animate, at the video's size. A batch of pictures gives a list of "
                "portraits, and one motion then drives them all."
            ),
            inputs=[
                PersonaLiveType.Input("personalive", tooltip="From PersonaLive Load Model."),
                io.Image.Input("image", tooltip="The portrait, from the front; the face well visible."),
                io.Int.Input(
                    "width", default=512, min=128, max=1024, step=64, tooltip="512 is the trained size."
                ),
                io.Int.Input(
                    "height", default=512, min=128, max=1024, step=64, tooltip="512 is the trained size."
                ),
                io.Combo.Input(
                    "crop",
                    options=list(CROPS),
                    tooltip=(
                        "centre: the largest part in the middle of the video's shape. head: around a face "
                        "(needs OpenCV or a face mask). none: the whole picture, stretched."
                    ),
                ),
                io.Combo.Input(
                    "who",
                    options=list(CHOICES),
                    optional=True,
                    tooltip="In a picture with several faces, the one that crop 'head' takes.",
                ),
                io.Mask.Input("face", optional=True, tooltip="A mask of the face, painted over the picture."),
            ],
            outputs=[
                PortraitType.Output(display_name="portrait", is_output_list=True),
                io.Image.Output(display_name="prepared image"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls, personalive, image, width: int, height: int, crop: str, who: str = CHOICES[0], face=None
    ) -> io.NodeOutput:
        portraits, prepared = prepare_portraits(
            personalive,
            image,
            height,
            width,
            crop,
            who,
            face,
            check_interrupt,
            partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(portraits, prepared, ui=ui.PreviewImage(prepared, cls=cls))
