"""The PersonaLive fixture set: seeded tiny weights, engine models made of them, images, and tolerances.

Every size and setting comes from the set's manifest and weight description, so another set of the same layout
works too.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from avatar.engines.personalive.codec import KLCodec
from avatar.engines.personalive.config import MotionEncoderConfig, PoseGuiderConfig, UNetConfig
from avatar.engines.personalive.denoising_unet import DenoisingUNet
from avatar.engines.personalive.image_encoder import ClipImageEncoder
from avatar.engines.personalive.motion_encoder import MotionEncoder
from avatar.engines.personalive.pipeline import PersonaLive
from avatar.engines.personalive.pose_guider import PoseGuider
from avatar.engines.personalive.reference_unet import ReferenceUNet
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.parity.reference import Recorded, manifest_entry, read_json, tensor_meaning, tensors
from tests.parity.seeded import seeded_state

FAMILY = "personalive"


def manifest() -> dict[str, Any]:
    return read_json(FAMILY, "MANIFEST.json")


def weights() -> dict[str, Any]:
    return read_json(FAMILY, manifest()["weights"])


def fixture(number: str) -> tuple[Recorded, Recorded]:
    """Tensors and recorded values of the fixture file whose name starts with ``number``."""
    entry = manifest_entry(FAMILY, number)
    values = {k: v["value"] for k, v in entry.get("values", {}).items()}
    return tensors(FAMILY, entry["file"]), Recorded(entry["file"], values)


def meaning(number: str, name: str) -> str:
    """What the manifest says about a tensor."""
    return tensor_meaning(FAMILY, number, name)


def numbers(text: str) -> list[int]:
    """All whole numbers in a text."""
    return [int(n) for n in re.findall(r"\d+", text)]


def thinned(x: Tensor, expected: Tensor) -> Tensor:
    """Every n-th value of each dimension, as far apart as in the recorded tensor."""
    steps = (-(-a // b) for a, b in zip(x.shape, expected.shape, strict=True))
    return x[tuple(slice(None, None, step) for step in steps)]


@functools.lru_cache
def state(name: str) -> dict[str, Tensor]:
    """State dict of one file of the set (or of its full-size networks)."""
    spec = weights()
    files = Recorded(manifest()["weights"], {**spec["full_size"], **spec["files"]})
    return seeded_state(files[name], spec["seed"])


def loaded(model: torch.nn.Module, weights_: dict[str, Tensor], strict: bool = True) -> Any:
    model.load_state_dict(weights_, strict=strict)
    return model.eval().requires_grad_(False)


def unet_config() -> UNetConfig:
    return UNetConfig.from_dict(weights()["configs"]["unet_base"])


@functools.lru_cache
def denoising_unet() -> DenoisingUNet:
    both = {**state("unet_base"), **state("denoising_unet.pth"), **state("temporal_module.pth")}
    return loaded(DenoisingUNet(unet_config()), both)


@functools.lru_cache
def reference_unet() -> ReferenceUNet:
    model = ReferenceUNet(unet_config())
    loaded(model.unet, state("reference_unet.pth"))
    return model.requires_grad_(False)


@functools.lru_cache
def motion_encoder(size: str) -> MotionEncoder:
    """``size``: "tiny" or "full"."""
    if size == "full":
        return loaded(MotionEncoder(), state("motion_encoder_full"))
    c = weights()["configs"]["motion_encoder"]
    config = MotionEncoderConfig(heads=c["num_attention_heads"], head_width=c["attention_head_dim"])
    return loaded(MotionEncoder(config), state("motion_encoder.pth"))


@functools.lru_cache
def motion_extractor(size: str) -> MotionExtractor:
    """``size``: "tiny" or "full"."""
    if size == "full":
        return loaded(MotionExtractor(), state("motion_extractor_full"))
    c = weights()["configs"]["motion_extractor"]
    config = MotionExtractorConfig(tuple(c["depths"]), tuple(c["dims"]), c["num_kp"])
    return loaded(MotionExtractor(config), state("motion_extractor.pth"))


@functools.lru_cache
def pose_guider() -> PoseGuider:
    c = weights()["configs"]["pose_guider"]
    config = PoseGuiderConfig(tuple(c["block_out_channels"]), c["conditioning_embedding_channels"])
    return loaded(PoseGuider(config), state("pose_guider.pth"))


def blow_up(low: Tensor, size: int) -> Tensor:
    """Small pictures ``[..., h, w, 3]`` as uint8 ``[..., size, size, 3]``, every pixel repeated."""
    k = size // low.shape[-2]
    return low.to(torch.uint8).repeat_interleave(k, -3).repeat_interleave(k, -2)


def unit(images: Tensor) -> Tensor:
    """uint8 ``[n, H, W, 3]`` as float ``[n, 3, H, W]`` in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


def near(
    actual: Tensor, expected: Tensor, relative: float = 1e-4, atol: float = 0.0, name: str = ""
) -> float:
    """Fail unless the largest deviation is within ``relative`` times the largest expected value (plus
    ``atol``)."""
    assert tuple(actual.shape) == tuple(expected.shape), (name, tuple(actual.shape), tuple(expected.shape))
    error = (actual.double() - expected.double()).abs().max().item()
    limit = relative * expected.double().abs().max().item() + atol
    assert error <= limit, f"{name} deviates by {error:.3g}, allowed {limit:.3g}"
    return error / max(expected.double().abs().max().item(), 1e-30)


@functools.lru_cache
def vae() -> AutoencoderKL:
    config = {k: v for k, v in weights()["configs"]["vae"].items() if not k.startswith("_")}
    return loaded(AutoencoderKL(**config), state("vae"))


@functools.lru_cache
def image_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig.from_dict(weights()["configs"]["image_encoder"])
    known = {k: v for k, v in state("image_encoder").items() if not k.endswith("position_ids")}
    return loaded(CLIPVisionModelWithProjection(config), known)


def engine(rounding: torch.dtype | None = torch.float16) -> PersonaLive:
    """The whole engine with the set's weights; the reference rounds its features to float16 by default."""
    return PersonaLive(
        denoising_unet(),
        reference_unet(),
        motion_encoder("tiny"),
        motion_extractor("tiny"),
        pose_guider(),
        ClipImageEncoder(image_encoder()),
        KLCodec(vae()),
        feature_rounding=rounding,
    )


def as_pil(image: Tensor) -> Image.Image:
    """uint8 ``[H, W, 3]`` as PIL."""
    return Image.fromarray(image.numpy())


def frames_first(x: Tensor) -> Tensor:
    """``[1, C, F, h, w]`` as ``[F, C, h, w]``."""
    return x[0].transpose(0, 1)


class Recorder:
    """Keeps the inputs and outputs of one stage of an engine: ``calls`` is a list of (arguments, result)."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *args):
        result = self.function(*args)
        self.calls.append((args, result))
        return result
