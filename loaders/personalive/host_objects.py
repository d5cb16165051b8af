"""PersonaLive inside ComfyUI: the host's own VAE and CLIP_VISION, its memory management and its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...engines.parts.face.boxes import YUNET_FILES, FaceFinder, HaarFinder, YuNetFinder
from ...engines.personalive.codec import KLCodec, TinyCodec
from ...engines.personalive.config import LATENT_SCALE, VAE_STRIDE
from ...engines.personalive.image_encoder import ClipImageEncoder
from ...engines.personalive.pipeline import PersonaLive
from ...host.memory import bring, patcher_of
from ..model_folder import ModelFolder
from .files import PERSONALIVE, holds_weights

CHECKPOINTS = ModelFolder("personalive", PERSONALIVE, holds_weights)
MOTION_SUFFIX = ".motion.safetensors"
VAE_CHANNELS = 4
WORKSPACE_BYTES_PER_PIXEL = 10_000
"""GPU memory per pixel for the activations of sixteen frames and of the decoder. On an H200 512x512 took 7,800 bytes in
fp16 as PyTorch runs it, and less with CUDA graphs."""


class HostCodec:
    """A host VAE that is Stable Diffusion 1.x's (best: ft-mse); the host manages its memory."""

    name = "full VAE"

    def __init__(self, vae: Any):
        """ValueError for a VAE with other latents."""
        stride = vae.spacial_compression_decode()
        if vae.latent_channels != VAE_CHANNELS or stride != VAE_STRIDE:
            raise ValueError(
                f"This VAE has {vae.latent_channels} latent channels at 1/{stride} of the size; "
                "PersonaLive needs Stable Diffusion 1.x's (vae-ft-mse-840000)."
            )
        self.vae = vae

    def encode(self, pixels: Tensor) -> Tensor:
        """See `engines.personalive.codec.Codec`; the host's encoder returns the mean, too."""
        latents = self.vae.encode((pixels / 2 + 0.5).permute(0, 2, 3, 1))
        return latents.to(pixels.device, torch.float32) * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """See `engines.personalive.codec.Codec`."""
        frames = self.vae.decode(latents / LATENT_SCALE)
        return frames.permute(0, 3, 1, 2).to(latents.device, torch.float32).clamp(0, 1)


class HostClip:
    """A host CLIP_VISION that is CLIP ViT-L/14; it resamples the picture a little differently."""

    def __init__(self, clip_vision: Any):
        self.clip_vision = clip_vision

    def token(self, image: Image.Image, squash: bool = False) -> Tensor:
        """See `engines.personalive.image_encoder.ImageEncoder`."""
        pixels = torch.from_numpy(np.array(image.convert("RGB")))[None].float() / 255
        return self.clip_vision.encode_image(pixels, crop=not squash)["image_embeds"].reshape(1, 1, -1)


class ManagedPersonaLive:
    """The engine on the host's memory management: on the GPU when it is used, moved out for others."""

    def __init__(self, engine: PersonaLive):
        from comfy import model_management

        self.engine = engine
        self.patcher = patcher_of(torch.nn.ModuleDict(networks(engine)), model_management.get_torch_device())

    def load(self, height: int, width: int) -> PersonaLive:
        """The engine with every network on the GPU, beside free memory for frames of ``height`` x ``width``."""
        bring([self.patcher], WORKSPACE_BYTES_PER_PIXEL * height * width)
        return self.engine

    def bring_back(self, height: int, width: int) -> None:
        """`load` once more if another model has pushed the networks out."""
        if self.engine.device != self.patcher.load_device:
            self.load(height, width)

    def place(self) -> int:
        """A number for the place of the networks, which changes when the host has moved them."""
        return self.engine.denoising_unet.conv_in.weight.data_ptr()

    def has_room(self, height: int, width: int) -> bool:
        """Whether `load` could free the memory for the graphs of frames of ``height`` x ``width``."""
        from comfy import model_management

        device = model_management.get_torch_device()
        return model_management.get_free_memory(device) >= WORKSPACE_BYTES_PER_PIXEL * height * width


def networks(engine: PersonaLive) -> dict[str, torch.nn.Module]:
    """Every network that is the engine's own, by name; those that the host lends are left out."""
    found = {
        "denoising_unet": engine.denoising_unet,
        "reference_unet": engine.reference_unet,
        "motion_encoder": engine.motion_encoder,
        "motion_extractor": engine.motion_extractor,
        "pose_guider": engine.pose_guider,
    }
    if isinstance(engine.image_encoder, ClipImageEncoder):
        found["image_encoder"] = engine.image_encoder.model
    codec = engine.codec
    if isinstance(codec, TinyCodec):
        found["tiny_vae"], codec = codec.vae, codec.full
    if isinstance(codec, KLCodec):
        found["vae"] = codec.vae
    return found


def motion_names() -> list[str]:
    """Motion files in the host's input and output folders, to be chosen from."""
    import folder_paths

    roots = (Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory()))
    found = {str(p.relative_to(root)) for root in roots for p in root.rglob(f"*{MOTION_SUFFIX}")}
    return sorted(found)


def motion_path(name: str) -> Path:
    """The file of a name from `motion_names`; FileNotFoundError when it is gone."""
    import folder_paths

    if name in motion_names():
        for root in (folder_paths.get_input_directory(), folder_paths.get_output_directory()):
            if (path := Path(root) / name).is_file():
                return path
    raise FileNotFoundError(
        f"There is no motion file {name:.80} in the input or output folder; reload the page."
    )


def face_finder() -> FaceFinder:
    """OpenCV's neural detector where somebody has put its model (of any version) into ``models/personalive``, else
    the classic one."""
    models = sorted(
        (path for root in CHECKPOINTS.roots() for path in root.glob(YUNET_FILES)), key=lambda path: path.name
    )
    return YuNetFinder(models[-1]) if models else HaarFinder()
