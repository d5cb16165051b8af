"""Motion extractor: implicit 3D keypoints, head angles, translation and scale of a face picture.

The ConvNeXt-V2 regressor of the LivePortrait family. It stays in float32: it is small, and half precision
would round pixel positions to a quarter of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE_SIZE = 256
ANGLE_BINS = 66
HEADS = ("kp", "scale", "pitch", "yaw", "roll", "t", "exp")


@dataclass(frozen=True)
class MotionExtractorConfig:
    """Depths and widths of the ConvNeXt-V2 keypoint regressor."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 768)
    keypoints: int = 21


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """Global response normalisation of ``[B, H, W, C]``."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return self.gamma * (x * (energy / (energy.mean(-1, keepdim=True) + 1e-6))) + self.beta + x


class Block(nn.Module):
    """A ConvNeXt-V2 block."""

    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.grn = ResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return x + y.permute(0, 3, 1, 2)


class Detector(nn.Module):
    """Backbone and regression heads; returns the raw heads by name."""

    def __init__(self, config: MotionExtractorConfig):
        super().__init__()
        dims = config.dims
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), ChannelNorm(dims[0], eps=1e-6))
        steps = [
            nn.Sequential(ChannelNorm(a, eps=1e-6), nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([stem, *steps])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(dims, config.depths, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.fc_kp = nn.Linear(dims[-1], 3 * config.keypoints)
        self.fc_scale = nn.Linear(dims[-1], 1)
        self.fc_pitch = nn.Linear(dims[-1], ANGLE_BINS)
        self.fc_yaw = nn.Linear(dims[-1], ANGLE_BINS)
        self.fc_roll = nn.Linear(dims[-1], ANGLE_BINS)
        self.fc_t = nn.Linear(dims[-1], 3)
        self.fc_exp = nn.Linear(dims[-1], 3 * config.keypoints)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures ``[n, 3, 256, 256]`` to `HEADS`; see `MotionExtractor.heads`."""
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        x = self.norm(x.mean((-2, -1)))
        return {name: self.get_submodule(f"fc_{name}")(x) for name in HEADS}


class MotionExtractor(nn.Module):
    """Head pose and keypoints of pictures; the checkpoint's ``motion_extractor.pth``."""

    def __init__(self, config: MotionExtractorConfig | None = None):
        super().__init__()
        self.detector = Detector(config or MotionExtractorConfig())
        self.register_buffer("idx_tensor", torch.arange(ANGLE_BINS, dtype=torch.float32))
        self.eval()

    def degrees(self, logits: Tensor) -> Tensor:
        """Expected angle ``[n]`` in degrees of 66-bin logits ``[n, 66]``."""
        return (logits.softmax(-1) * self.idx_tensor).sum(-1) * 3 - 97.5

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """The raw heads of pictures ``[n, 3, 256, 256]`` in [0, 1] by the names in `HEADS`.

        Keypoints and expression are ``[n, 63]``, angles logits ``[n, 66]``, the translation is ``[n, 3]``, the scale
        ``[n, 1]``.
        """
        return self.detector(images.float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures ``[n, 3, 256, 256]`` in [0, 1] to the parts of their poses, in the order of
        `keypoints.Pose`: keypoints, angles in degrees, translation, scale."""
        heads = self.heads(images)
        angles = torch.stack([self.degrees(heads[name]) for name in ("pitch", "yaw", "roll")], -1)
        return heads["kp"].unflatten(-1, (-1, 3)), angles, heads["t"], heads["scale"]
