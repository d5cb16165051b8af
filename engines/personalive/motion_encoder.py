"""Motion encoder: a 224-pixel face crop becomes 32 tokens of width 16 that describe its expression.

A face-alignment network (pre-activation blocks and an hourglass) with three patch transformers between its
stages. Always in eval mode: its batch norms are frozen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from einops import rearrange
from torch import Tensor, nn

from .config import MOTION_TOKENS, MOTION_WIDTH, MotionEncoderConfig
from .layers import Attention, TransformerBlock, sincos, to_map, to_tokens

GRID = 28  # patches per side in every patch transformer


class ConvBlock(nn.Module):
    """Three growing 3x3 convolutions whose outputs are concatenated and added to the (projected) input."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        half, quarter = outer // 2, outer // 4
        self.bn1, self.conv1 = nn.BatchNorm2d(inner), nn.Conv2d(inner, half, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(quarter), nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample = None
        if inner != outer:
            shortcut = nn.Conv2d(inner, outer, 1, bias=False)
            self.downsample = nn.Sequential(nn.BatchNorm2d(inner, eps=1e-4), nn.ReLU(), shortcut)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        return torch.cat((first, second, third), 1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """Recursive encoder-decoder; level 1 is the coarsest."""

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            for branch in (1, 2, 3):
                self.add_module(f"b{branch}_{level}", ConvBlock(width, width))
        self.b2_plus_1 = ConvBlock(width, width)

    def forward(self, x: Tensor, level: int | None = None) -> Tensor:
        level = self.depth if level is None else level
        upper = self.get_submodule(f"b1_{level}")(x)
        lower = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        lower = self.b2_plus_1(lower) if level == 1 else self.forward(lower, level - 1)
        lower = self.get_submodule(f"b3_{level}")(lower)
        return upper + F.interpolate(lower, upper.shape[-2:], mode="bilinear", align_corners=False)


class PatchProjection(nn.Module):
    """The patch convolution, under the name that the checkpoint uses."""

    def __init__(self, channels: int, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)


class PatchTransformer(nn.Module):
    """One transformer block over a 28x28 grid of patches, added to its input feature map."""

    def __init__(self, channels: int, patch: int, config: MotionEncoderConfig):
        super().__init__()
        width = config.heads * config.head_width
        self.patch = patch
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.pos_embed = PatchProjection(channels, width, patch)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, [Attention(width, config.heads)])])
        self.proj_out = nn.Linear(width // patch**2, channels)
        table = get_2d_sincos_pos_embed(width, GRID, base_size=GRID, output_type="pt")
        self.register_buffer("positions", table.float()[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.pos_embed.proj(self.norm(x))
        tokens = to_tokens(patches) + self.positions.to(patches.dtype)
        tokens = self.transformer_blocks[0](tokens)
        side, p = patches.shape[-1], self.patch
        pixels = self.proj_out(tokens.view(len(x), side, side, p, p, -1))
        pixels = rearrange(pixels, "n rows columns p q c -> n (rows p columns q) c")
        return x + to_map(pixels, x)


class FaceNetwork(nn.Module):
    """From a face crop ``[n, 3, 224, 224]`` in [-1, 1] to one vector ``[n, 512]``."""

    def __init__(self, config: MotionEncoderConfig):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64)
        self.conv2 = ConvBlock(64, 128)
        self.att_1 = PatchTransformer(128, 4, config)
        self.conv3 = ConvBlock(128, 128)
        self.conv4 = ConvBlock(128, 256)
        self.att_2 = PatchTransformer(256, 2, config)
        self.m0 = Hourglass(4, 256)
        self.top_m_0 = ConvBlock(256, 256)
        self.conv_last0, self.bn_end0 = nn.Conv2d(256, 256, 1), nn.BatchNorm2d(256)
        self.att_3 = PatchTransformer(256, 2, config)
        self.l0, self.bn5 = nn.Conv2d(256, 68, 1), nn.BatchNorm2d(68)
        self.conv6 = nn.Conv2d(68, 1, 3, stride=2, padding=1)
        self.fc = nn.Linear(GRID * GRID, MOTION_TOKENS * MOTION_WIDTH)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.att_1(self.conv2(F.relu(self.bn1(self.conv1(faces)))))
        x = self.att_2(self.conv4(self.conv3(F.max_pool2d(x, 2))))
        x = self.bn_end0(self.conv_last0(self.top_m_0(self.m0(x))))
        x = F.relu(self.bn5(self.l0(F.relu(self.att_3(x)))))
        return self.fc(F.relu(self.conv6(x).flatten(1)))


class MotionEncoder(nn.Module):
    """Expression tokens of face crops; the checkpoint's ``motion_encoder.pth``."""

    def __init__(self, config: MotionEncoderConfig | None = None):
        super().__init__()
        self.model = FaceNetwork(config or MotionEncoderConfig())
        width = MOTION_TOKENS * MOTION_WIDTH
        self.final_proj = nn.Linear(width, width)
        table = torch.cat(sincos(torch.arange(MOTION_TOKENS), MOTION_WIDTH), 1)
        self.register_buffer("pe", table.float()[None])
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        """Faces ``[n, 3, 224, 224]`` in [-1, 1] to tokens ``[n, 32, 16]``."""
        dtype = self.final_proj.weight.dtype
        tokens = self.final_proj(self.model(faces.to(dtype))).view(-1, MOTION_TOKENS, MOTION_WIDTH)
        return tokens + self.pe.to(dtype)
