"""PersonaLive at full size with random weights, and what is fed to it; part of the benchmark."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import diffusers
import transformers
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from avatar.engines.personalive.codec import KLCodec, channels_last
from avatar.engines.personalive.config import MotionEncoderConfig, StreamConfig, UNetConfig
from avatar.engines.personalive.denoising_unet import DenoisingUNet
from avatar.engines.personalive.image_encoder import ClipImageEncoder
from avatar.engines.personalive.motion_encoder import MotionEncoder
from avatar.engines.personalive.pipeline import PersonaLive, Portrait, Stream
from avatar.engines.personalive.pose_guider import PoseGuider, PoseGuiderConfig
from avatar.engines.personalive.reference_unet import ReferenceUNet
from torch import Tensor, nn

SETTLE_CHUNKS = 3  # not measured: the first is larger, the next ones fill caches


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(device: torch.device, function: Callable[[], Any]) -> tuple[float, Any]:
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - start, result


def build(device: torch.device, dtype: torch.dtype, tiny: bool) -> PersonaLive:
    """Every network at full size (or small, for a dry run) with random weights made on the device."""
    torch.manual_seed(0)

    def ready(module: nn.Module, dtype: torch.dtype = dtype) -> nn.Module:
        nn.Module.to(module, dtype=dtype)
        return channels_last(module).eval().requires_grad_(False)

    if tiny:
        unet = UNetConfig(block_out_channels=(32, 32, 64, 64), cross_attention_dim=24)
        motion = MotionEncoderConfig(head_width=16)
        extractor = MotionExtractorConfig((1, 1, 2, 1), (16, 24, 32, 48))
        vae = {"block_out_channels": (16, 16, 32, 32), "layers_per_block": 1, "norm_num_groups": 8}
        clip = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    else:
        unet, motion, extractor = UNetConfig(), MotionEncoderConfig(), MotionExtractorConfig()
        vae = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
        clip = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        }
    with device:
        kl = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            **vae,
        )
        config = transformers.CLIPVisionConfig(
            projection_dim=unet.cross_attention_dim, image_size=224, **clip
        )
        return PersonaLive(
            ready(DenoisingUNet(unet)),
            ready(ReferenceUNet(unet)),
            ready(MotionEncoder(motion)),
            ready(MotionExtractor(extractor), torch.float32),
            ready(PoseGuider(PoseGuiderConfig(out_channels=unet.block_out_channels[0]))),
            ClipImageEncoder(ready(transformers.CLIPVisionModelWithProjection(config))),
            KLCodec(ready(kl)),
        )


class Session:
    """One configuration of an engine, and what is fed to it."""

    def __init__(self, engine: PersonaLive, size: int, steps: int, keyframes: int):
        self.engine, self.size, self.keyframes = engine, size, keyframes
        self.config = StreamConfig(steps=steps, max_keyframes=0)
        generator = torch.Generator().manual_seed(1)
        self.image = torch.randint(0, 256, (size, size, 3), generator=generator, dtype=torch.uint8)
        self.frames = torch.randint(0, 256, (4, size, size, 3), generator=generator, dtype=torch.uint8)
        # random weights find no faces
        self.box = torch.tensor([size // 4, size // 4, size * 3 // 4, size * 3 // 4])

    def portrait(self) -> Portrait:
        return self.engine.portrait(self.image, self.size, self.size, self.box)

    def stream(self, portrait: Portrait) -> Stream:
        stream = self.engine.stream(portrait, self.config)
        for _ in range(self.keyframes):
            with torch.inference_mode():
                stream.bank.add(self.engine.reference_unet(portrait.latent, portrait.image_token))
        return stream

    def chunk(self, stream: Stream) -> Tensor:
        motion = self.engine.observe(self.frames, self.box.expand(4, -1))
        return stream.push(motion).cpu()

    def first_frame(self) -> None:
        self.chunk(self.stream(self.portrait()))

    def streamed(self, portrait: Portrait, chunks: int) -> float:
        """Frames per second of ``animate``, from driving frames that are read meanwhile."""
        box = self.box.expand(4, -1)
        motion = (self.engine.observe(self.frames, box) for _ in range(chunks))
        times = [time.perf_counter() for _ in self.engine.animate(portrait, motion, self.config)]
        steps = [after - before for before, after in pairwise(times[: chunks - self.config.piles])]
        return len(self.frames) / statistics.median(steps)
