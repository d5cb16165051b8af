"""PersonaLive: nodes that load the networks and prepare the portrait."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...engines.parts.face.boxes import (
    CHOICES,
    Box,
    FaceNotFoundError,
    centre_square,
    choose_face,
    head_square,
    mask_boxes,
)
from ...engines.personalive.driving import CROPS
from ...engines.personalive.pipeline import check_size
from ...engines.personalive.preprocess import lanczos, to_pil, to_uint8
from ...host.progress import Progress, check_interrupt, show_text
from ...loaders.personalive.host_objects import (
    HostClip,
    HostCodec,
    ManagedPersonaLive,
    checkpoint_names,
    checkpoint_source,
    face_finder,
    model_folders,
)
from ...loaders.personalive.networks import find_files, load_personalive
from ...media.portrait import colours
from ..schema import Node, schema
from ..types import PersonaLiveType, PortraitType

CATEGORY = "LiveAvatar/PersonaLive"
DECODERS = ("full VAE", "tiny VAE")
DTYPES = {"auto": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class PersonaLiveLoadModel(Node):
    """All networks of PersonaLive."""

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
                    options=checkpoint_names(),
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
                    tooltip="tiny VAE (madebyollin/taesd) is faster and a little softer.",
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
        source = checkpoint_source(checkpoint)
        codec = None if vae is None else HostCodec(vae)
        clip = None if clip_vision is None else HostClip(clip_vision)
        files = find_files(
            source,
            model_folders(),
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
    """Who is animated."""

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
                    tooltip="Whom 'head' cuts out of a picture with several faces.",
                ),
                io.Mask.Input("face", optional=True, tooltip="Where the face is, painted over the picture."),
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
        check_size(height, width)
        if face is not None:
            check_masks(face, *image.shape[1:3])
        pictures = to_uint8(colours(image))
        masks = None if face is None else mask_boxes(face)
        cuts, most = [], 0
        for i, picture in enumerate(pictures):
            given = None if masks is None else _given(masks[min(i, len(masks) - 1)])
            found = _find(picture) if crop == "head" and given is None else []
            most = max(most, len(found))
            head = given or (choose_face(found, who, *picture.shape[:2]) if found else None)
            cuts.append(_cut_portrait(picture, crop, width / height, head, given))
        if most > 1:
            show_text(f"{most} faces: the {who} one is taken", cls.hidden)
        engine = personalive.load(height, width)
        portraits, prepared = [], []
        for part, box in cuts:
            check_interrupt()
            if box is not None:
                rows, columns = part.shape[:2]
                scale = torch.tensor([width / columns, height / rows] * 2)
                box = (box * scale).round().long().minimum(torch.tensor([width, height] * 2)).clamp(min=0)
            portraits.append(engine.portrait(part, height, width, box))
            prepared.append(lanczos(to_pil(part), height, width)[0].permute(1, 2, 0))
        prepared = torch.stack(prepared)
        return io.NodeOutput(portraits, prepared, ui=ui.PreviewImage(prepared, cls=cls))


def check_masks(masks: Tensor, height: int, width: int) -> None:
    """ValueError unless masks ``[n, h, w]`` lie over pictures of ``height`` x ``width``."""
    if masks.ndim != 3 or len(masks) == 0:
        raise ValueError(f"The face mask is {list(masks.shape)}, not [pictures, height, width]; paint one.")
    if masks.shape[1:] != (height, width):
        raise ValueError(
            f"The face mask is {masks.shape[2]}x{masks.shape[1]}, the picture {width}x{height}; use a mask "
            "that was painted over this picture."
        )


def _given(box: Tensor) -> Box:
    if not box.any():
        raise ValueError("The face mask is empty; paint over the face, or disconnect the mask.")
    return Box(*box.tolist())


def _find(picture: Tensor) -> list[Box]:
    """The faces of a picture; FaceNotFoundError when there is none."""
    faces = face_finder().find(picture.numpy())
    if not faces:
        raise FaceNotFoundError(0, "the portrait", "paint a mask over it, or crop the picture yourself")
    return faces


def _cut_portrait(
    picture: Tensor, crop: str, aspect: float, head: Box | None, face: Box | None
) -> tuple[Tensor, Tensor | None]:
    """The part of a picture to animate, of a width : height ratio, and the given face box ``[4]`` in it.

    head: whose head "head" cuts out. face: the box given by a mask.
    """
    height, width = picture.shape[:2]
    inside = None if face is None else torch.tensor(face)
    if crop == "none":
        return picture, inside
    square = centre_square(height, width) if crop == "centre" else head_square(head, height, width)
    part = _shape(square, aspect, height, width)
    if inside is not None:
        inside = inside - torch.tensor([part.x1, part.y1] * 2)
    return picture[part.y1 : part.y2, part.x1 : part.x2].contiguous(), inside


def _shape(square: Box, aspect: float, height: int, width: int) -> Box:
    """A square grown to a shape; where the picture is too small for that, shrunk."""
    side = square.x2 - square.x1
    wide, high = side * max(1.0, aspect), side * max(1.0, 1 / aspect)
    fit = min(1.0, width / wide, height / high)
    wide, high = max(1, round(wide * fit)), max(1, round(high * fit))
    left = min(max((square.x1 + square.x2 - wide) // 2, 0), width - wide)
    top = min(max((square.y1 + square.y2 - high) // 2, 0), height - high)
    return Box(left, top, left + wide, top + high)
