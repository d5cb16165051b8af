"""Denoising UNet: Stable Diffusion 1.x over the frames of the window, with motion and temporal modules.

Layers come in the order resnet, spatial transformer (where the block has one), motion, temporal; pose
features are added after the first convolution. Parameter names are those of ``denoising_unet.pth`` and
``temporal_module.pth`` together.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from .config import UNetConfig
from .modules import BlockContext, MotionModule, SpatialTransformer, TemporalModule


class Stage(nn.Module):
    """One resolution of the UNet on its way down or up, or the middle."""

    def __init__(self, config: UNetConfig, inputs: list[int], dim: int, attention: bool, layers: int):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock2D(
                in_channels=inner,
                out_channels=dim,
                temb_channels=config.block_out_channels[0] * 4,
                groups=config.norm_num_groups,
                eps=config.norm_eps,
            )
            for inner in inputs
        )
        heads, context = config.attention_head_dim, config.cross_attention_dim
        self.attentions = nn.ModuleList(
            SpatialTransformer(dim, heads, context, config.norm_num_groups)
            for _ in range(layers if attention else 0)
        )
        self.motion_modules = nn.ModuleList(
            MotionModule(dim, config.module_heads, config.motion_width) for _ in range(layers)
        )
        self.temporal_modules = nn.ModuleList(
            TemporalModule(dim, config.module_heads, config.position_length) for _ in range(layers)
        )

    def take(self, contexts: Iterator[BlockContext]) -> list[BlockContext]:
        """The next contexts, as many as this stage has spatial transformers."""
        return [next(contexts) for _ in self.attentions]

    def layer(self, j: int, x: Tensor, motion: Tensor, contexts: list[BlockContext]) -> Tensor:
        """Apply the layers behind resnet ``j``: spatial transformer, motion module, temporal module."""
        if len(self.attentions):
            x = self.attentions[j](x, contexts[j])
        return self.temporal_modules[j](self.motion_modules[j](x, motion))


class DownStage(Stage):
    """Returns the output and every skip connection."""

    def __init__(self, config: UNetConfig, inputs: list[int], dim: int, attention: bool, last: bool):
        super().__init__(config, inputs, dim, attention, len(inputs))
        if not last:
            self.downsamplers = nn.ModuleList([Downsample2D(dim, use_conv=True, name="op")])

    def forward(
        self, x: Tensor, temb: Tensor, motion: Tensor, contexts: list[BlockContext]
    ) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for j, resnet in enumerate(self.resnets):
            x = self.layer(j, resnet(x, temb), motion, contexts)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class MiddleStage(Stage):
    """Resnet, transformer and modules, resnet."""

    def forward(self, x: Tensor, temb: Tensor, motion: Tensor, contexts: list[BlockContext]) -> Tensor:
        x = self.layer(0, self.resnets[0](x, temb), motion, contexts)
        return self.resnets[1](x, temb)


class UpStage(Stage):
    """Takes the skip connections, the last one first."""

    def __init__(self, config: UNetConfig, inputs: list[int], dim: int, attention: bool, last: bool):
        super().__init__(config, inputs, dim, attention, len(inputs))
        if not last:
            self.upsamplers = nn.ModuleList([Upsample2D(dim, use_conv=True)])

    def merged(self, resnet: ResnetBlock2D, x: Tensor, skip: Tensor, temb: Tensor) -> Tensor:
        """A resnet over a map and its skip connection."""
        return resnet(torch.cat([x, skip], 1), temb)

    def forward(
        self, x: Tensor, skips: list[Tensor], temb: Tensor, motion: Tensor, contexts: list[BlockContext]
    ) -> Tensor:
        for j, resnet in enumerate(self.resnets):
            x = self.layer(j, self.merged(resnet, x, skips[-1 - j], temb), motion, contexts)
        if hasattr(self, "upsamplers"):
            x = self.upsamplers[0](x)
        return x


class DenoisingUNet(nn.Module):
    """Predicts the noise of a window of frames, each with its own timestep."""

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        self.config = config = config or UNetConfig()
        channels, layers = config.block_out_channels, config.layers_per_block
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_proj = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], channels[0] * 4)

        self.down_blocks, skips = nn.ModuleList(), [channels[0]]
        for i, (dim, kind) in enumerate(zip(channels, config.down_block_types, strict=True)):
            inputs = [channels[max(i - 1, 0)]] + [dim] * (layers - 1)
            self.down_blocks.append(DownStage(config, inputs, dim, "CrossAttn" in kind, i == last))
            skips += [dim] * (layers + (i < last))

        self.mid_block = MiddleStage(config, [channels[-1]] * 2, channels[-1], True, layers=1)

        self.up_blocks, previous = nn.ModuleList(), channels[-1]
        for i, (dim, kind) in enumerate(zip(reversed(channels), config.up_block_types, strict=True)):
            inputs = [inner + skips.pop() for inner in [previous] + [dim] * layers]
            self.up_blocks.append(UpStage(config, inputs, dim, "CrossAttn" in kind, i == last))
            previous = dim

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)
        self.eval()

    def spatial_blocks(self) -> dict[str, nn.Module]:
        """The blocks that read the reference, by the path they share with the reference UNet's blocks."""
        return {
            f"{name}.transformer_blocks.0": module.transformer_blocks[0]
            for name, module in self.named_modules()
            if isinstance(module, SpatialTransformer)
        }

    def forward(
        self, x: Tensor, timesteps: Tensor, motion: Tensor, pose: Tensor | None, contexts: list[BlockContext]
    ) -> Tensor:
        """Predicted noise ``[F, 4, h, w]``.

        Args:
            x: latents ``[F, 4, h, w]``.
            timesteps: ``[F]``.
            motion: tokens ``[F, 32, 16]``.
            pose: features ``[F, C, h, w]`` or None.
            contexts: one per spatial block, in the order of `spatial_blocks`.
        """
        temb = self.time_embedding(self.time_proj(timesteps).to(x.dtype))
        x = self.conv_in(x.to(memory_format=torch.channels_last))
        if pose is not None:
            x = x + pose

        waiting = iter(contexts)
        skips = [x]
        for stage in self.down_blocks:
            x, new = stage(x, temb, motion, stage.take(waiting))
            skips += new
        x = self.mid_block(x, temb, motion, self.mid_block.take(waiting))
        for stage in self.up_blocks:
            own, skips = skips[-len(stage.resnets) :], skips[: -len(stage.resnets)]
            x = stage(x, own, temb, motion, stage.take(waiting))
        return self.conv_out(F.silu(self.conv_norm_out(x)))
