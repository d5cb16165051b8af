"""Warping network: moves a portrait's volume of features from its own keypoints to those of a frame.

Volumes are ``[B, C, d, h, w]``, keypoints ``[B, 21, 3]`` in units where [-1, 1] spans the volume, as (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fast_convs import FlatConv, SliceConv, TapConv, by_pictures, missing, widened
from .layers import ConvNorm, fold_norm

HEAT_VARIANCE = 0.01


@dataclass(frozen=True)
class DenseMotionConfig:
    """Sizes of the network that says where each part of the volume comes from."""

    points: int = 21
    volume_channels: int = 32
    volume_depth: int = 16
    compressed_channels: int = 4
    first_channels: int = 32
    most_channels: int = 1024
    blocks: int = 5

    def width(self, level: int) -> int:
        """Channels of the hourglass after ``level`` down blocks, from level 1 on."""
        return min(self.most_channels, self.first_channels * 2**level)

    @property
    def motions(self) -> int:
        """Motions that are mixed: one per keypoint, and none."""
        return self.points + 1

    @property
    def inputs(self) -> int:
        """Channels that the hourglass reads: a heat map and the moved features for every motion."""
        return self.motions * (self.compressed_channels + 1)


@dataclass(frozen=True)
class WarpingConfig:
    """Sizes of the warping network; its output has ``channels`` channels."""

    channels: int = 256
    dense_motion: DenseMotionConfig = field(default_factory=DenseMotionConfig)


class Encoder(nn.Module):
    """Halves height and width in every block; gives the input and the result of each block."""

    def __init__(self, config: DenseMotionConfig):
        super().__init__()
        widths = [config.inputs, *(config.width(i + 1) for i in range(config.blocks))]
        self.down_blocks = nn.ModuleList(ConvNorm(3, inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for block in self.down_blocks:
            maps.append(by_pictures(lambda x: F.avg_pool2d(x, 2), F.relu(block(maps[-1]))))
        return maps


class Decoder(nn.Module):
    """Doubles height and width in every block, and puts the encoder's map of this size beside the result."""

    def __init__(self, config: DenseMotionConfig):
        super().__init__()
        outputs = [config.width(i) for i in reversed(range(config.blocks))]
        inputs = [config.width(config.blocks), *(2 * width for width in outputs[:-1])]
        self.up_blocks = nn.ModuleList(ConvNorm(3, a, b) for a, b in zip(inputs, outputs, strict=True))
        self.channels = outputs[-1] + config.inputs
        self.conv = nn.Conv3d(self.channels, self.channels, 3, padding=1)
        self.norm = nn.BatchNorm3d(self.channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps.pop()
        for block in self.up_blocks:
            x = F.relu(block(by_pictures(lambda x: F.interpolate(x, scale_factor=2), x)))
            x = torch.cat([x, maps.pop()], 1)
        return F.relu(self.norm(self.conv(x)))

    def folded(self) -> Decoder:
        """The same with its last norm folded into the convolution."""
        self.conv, self.norm = fold_norm(self.conv, self.norm), nn.Identity()
        return self


class Hourglass(nn.Module):
    """The encoder and the decoder."""

    def __init__(self, config: DenseMotionConfig):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class DenseMotion(NamedTuple):
    """Where a frame's volume comes from.

    Attributes:
        deformation: the places to read ``[B, d, h, w, 3]``.
        mask: the part of each motion ``[B, 22, d, h, w]``.
        occlusion: how much of each place is seen ``[B, 1, h, w]``, in [0, 1].
    """

    deformation: Tensor
    mask: Tensor
    occlusion: Tensor


class DenseMotionNetwork(nn.Module):
    """Mixes the motions of the keypoints into one for every place of the volume."""

    def __init__(self, config: DenseMotionConfig):
        super().__init__()
        self.compress = nn.Conv3d(config.volume_channels, config.compressed_channels, 1)
        self.norm = nn.BatchNorm3d(config.compressed_channels)
        self.hourglass = Hourglass(config)
        channels = self.hourglass.decoder.channels
        self.mask = nn.Conv3d(channels, config.motions, 7, padding=3)
        self.occlusion = FlatConv(channels * config.volume_depth, 1, 7, padding=3)
        self.inputs, self.zeros, self.depth = config.inputs, 0, config.volume_depth

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> DenseMotion:
        """From volumes and source keypoints, of the batch's size or single ones, and driving keypoints."""
        grid = coordinates(volume.shape[-3:], volume.device)
        shifts = F.pad(source - driving, (0, 0, 1, 0))  # [B, 22, 3], the first one is none
        heat = heat_maps(grid, driving) - heat_maps(grid, source)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)
        features = F.relu(self.norm(self.compress(volume)))
        moved = self._move(features, grid + shifts[:, :, None, None, None])
        x = self.hourglass(self._beside(heat, moved, volume.dtype))
        mask = self.mask(x).float().softmax(1)
        # every motion is the grid and a shift, and the parts add up to 1
        deformation = grid + torch.einsum("bkdhw,bkc->bdhwc", mask, shifts)
        occlusion = self.occlusion(x).float().sigmoid()
        return DenseMotion(deformation, mask, occlusion)

    def folded(self) -> DenseMotionNetwork:
        """The same with its norm folded, the mask by pictures in place of volumes, the occlusion by taps, and as many
        channels more, of zeros, as make their count a whole one."""
        self.compress, self.norm = fold_norm(self.compress, self.norm), nn.Identity()
        self.zeros = zeros = missing(self.inputs)
        encoder, decoder = self.hourglass.encoder, self.hourglass.decoder
        encoder.down_blocks[0] = widened(encoder.down_blocks[0], zeros)
        decoder.conv = widened(decoder.conv, zeros, zeros)
        self.mask = SliceConv(widened(self.mask, zeros))
        self.occlusion = TapConv(widened(self.occlusion, zeros * self.depth), self.depth)
        return self

    def _beside(self, heat: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
        """What the hourglass reads ``[B, channels, d, h, w]``: for every motion its heat map, then the moved features;
        and zeros, where the network is folded."""
        batch, size = len(heat), heat.shape[2:]
        x = torch.empty(
            (batch, self.inputs + self.zeros, *size),
            dtype=dtype,
            device=heat.device,
            memory_format=torch.channels_last_3d,
        )
        x[:, self.inputs :] = 0
        motions = x[:, : self.inputs].unflatten(1, (heat.shape[1], -1))
        motions[:, :, 0], motions[:, :, 1:] = heat, moved
        return x

    @staticmethod
    def _move(features: Tensor, motions: Tensor) -> Tensor:
        """Features ``[B or 1, c, d, h, w]`` read at ``[B, 22, d, h, w, 3]`` as ``[B, 22, c, d, h, w]``."""
        batch, count = motions.shape[:2]
        features = features.float().expand(batch, -1, -1, -1, -1).repeat_interleave(count, 0)
        return sample(features, motions.flatten(0, 1)).unflatten(0, (batch, count))


class WarpingNetwork(nn.Module):
    """LivePortrait's warping module; the checkpoint's ``warp_network.pth``."""

    def __init__(self, config: WarpingConfig | None = None):
        super().__init__()
        self.config = config = config or WarpingConfig()
        motion = config.dense_motion
        self.dense_motion_network = DenseMotionNetwork(motion)
        self.third = ConvNorm(2, motion.volume_channels * motion.volume_depth, config.channels)
        self.fourth = nn.Conv2d(config.channels, config.channels, 1)
        self.eval()

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """The feature maps of frames ``[B, C, h, w]``.

        Args:
            volume: of the portrait ``[B or 1, c, d, h, w]``.
            source: keypoints of the portrait ``[B or 1, 21, 3]``, float32.
            driving: keypoints of the frames ``[B, 21, 3]``, float32.
        """
        motion = self.dense_motion_network(volume, source, driving)
        moved = sample(volume.float().expand(len(driving), -1, -1, -1, -1), motion.deformation)
        x = F.leaky_relu(self.third(moved.to(volume.dtype).flatten(1, 2)), 0.01)
        return self.fourth(x) * motion.occlusion.to(volume.dtype)


def coordinates(size: torch.Size, device: torch.device) -> Tensor:
    """The places of a volume ``[d, h, w, 3]`` as (x, y, z) from -1 to 1."""
    axes = [torch.linspace(-1, 1, count, device=device) for count in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)


def heat_maps(grid: Tensor, points: Tensor) -> Tensor:
    """Spots ``[B, 21, d, h, w]`` around keypoints ``[B, 21, 3]``, 1 in their middle."""
    distance = (grid - points[:, :, None, None, None]).square().sum(-1)
    return (distance * (-0.5 / HEAT_VARIANCE)).exp()


def sample(volume: Tensor, places: Tensor) -> Tensor:
    """Volumes read at ``[B, d, h, w, 3]``, in float32, with zeros outside.

    As in training, corners are not aligned here, although `coordinates` aligns them.
    """
    return F.grid_sample(volume, places, align_corners=False)
