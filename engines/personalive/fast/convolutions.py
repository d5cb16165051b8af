"""Convolutional blocks of the UNet and of the decoders with their elementwise work fused, for CUDA with Triton.

What is saved is passes over the feature maps: the bias of a convolution (a pass of its own in PyTorch), SiLU, the time
embedding and the residual of a resnet; the sums of a group norm, which are added up by whatever makes its map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ...gpu.map_kernels import Raise, add_maps, norm_maps, scale_and_rectify, spread_pixels
from ...gpu.swap import StandIn
from ...gpu.upsampling import small_weight
from ..denoising_unet import UpStage
from ..layers import to_map, to_tokens


class FusedResnet(StandIn, ResnetBlock2D):
    """A resnet without time embedding or with one that is added."""

    @classmethod
    def fits(cls, layer: ResnetBlock2D) -> bool:
        """Whether it has group norms, SiLU, no resampling, and a time embedding that is added, if any."""
        return (
            layer.upsample is None
            and layer.downsample is None
            and (layer.time_emb_proj is None or layer.time_embedding_norm == "default")
            and layer.time_embedding_norm in ("default", "group")  # group norms, where no time comes in
            and not layer.skip_time_act
            and isinstance(layer.nonlinearity, nn.SiLU)
            and layer.output_scale_factor == 1.0
        )

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None, *args, **kwargs) -> Tensor:
        """Maps [B, C, h, w] and time embedding [B, T] to maps of the same size."""
        return self.joined((input_tensor,), temb)

    def joined(self, parts: Sequence[Tensor], temb: Tensor | None) -> Tensor:
        """`forward` for one map, or for two that would lie side by side in channels."""
        h = self.conv1._conv_forward(norm_maps(parts, self.norm1, silu=True), self.conv1.weight, None)
        raised = None if temb is None else self.time_emb_proj(F.silu(temb))
        h = norm_maps((h,), self.norm2, Raise(raised, self.conv1.bias), silu=True)
        h = self.conv2._conv_forward(h, self.conv2.weight, None)
        return add_maps(self._shortcut(parts), h, self.conv2.bias)

    def _shortcut(self, parts: Sequence[Tensor]) -> Tensor:
        if self.conv_shortcut is None:
            return parts[0]
        weights = self.conv_shortcut.weight.flatten(1).split([part.shape[1] for part in parts], 1)
        tokens = F.linear(to_tokens(parts[0]), weights[0], self.conv_shortcut.bias)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            tokens.flatten(0, 1).addmm_(to_tokens(part).flatten(0, 1), weight.t())
        return to_map(tokens, parts[0])


class FusedUpStage(StandIn, UpStage):
    """An up stage whose resnets read skip connections where they are, without joining them first."""

    @classmethod
    def fits(cls, layer: UpStage) -> bool:
        """Whether its resnets take two maps."""
        return all(isinstance(resnet, FusedResnet) for resnet in layer.resnets)

    def merged(self, resnet: FusedResnet, x: Tensor, skip: Tensor, temb: Tensor) -> Tensor:
        """See `denoising_unet.UpStage.merged`."""
        return resnet.joined((x, skip), temb)


class FusedDownsample(StandIn, Downsample2D):
    """A convolution of stride 2, whose bias is added in the pass that sums up channels for the next norm."""

    @classmethod
    def fits(cls, layer: Downsample2D) -> bool:
        """Whether it is a convolution with a bias and nothing else."""
        return layer.use_conv and layer.norm is None and layer.padding == 1 and layer.conv.bias is not None

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """Maps [B, C, h, w] to [B, C, h / 2, w / 2]."""
        return add_maps(self.conv._conv_forward(hidden_states, self.conv.weight, None), None, self.conv.bias)


class FusedUpsample(StandIn, Upsample2D):
    """Computes nearest neighbours and a 3x3 convolution as one convolution of the small map; see `upsampling`."""

    @classmethod
    def fits(cls, layer: Upsample2D) -> bool:
        """Whether it is nearest neighbours and a 3x3 convolution with a bias."""
        return (
            layer.use_conv
            and layer.interpolate
            and not layer.use_conv_transpose
            and layer.norm is None
            and layer.conv.kernel_size == (3, 3)
            and layer.conv.bias is not None
        )

    def prepare(self) -> None:
        """Add up the weights."""
        weight = self.conv.weight
        self.small_weight = small_weight(weight.float()).to(weight.dtype)

    def forward(self, hidden_states: Tensor, output_size: int | None = None, *args, **kwargs) -> Tensor:
        """Maps [B, C, h, w] to [B, C, 2 h, 2 w]."""
        x = hidden_states.contiguous(memory_format=torch.channels_last)
        return spread_pixels(F.conv2d(x, self.small_weight, padding=1), self.conv.bias)


class FusedTinyBlock(StandIn, AutoencoderTinyBlock):
    """Three convolutions of the tiny decoder, each with bias and ReLU in one pass, the last with the residual too."""

    @classmethod
    def fits(cls, layer: AutoencoderTinyBlock) -> bool:
        """Whether all it does between convolutions is ReLU."""
        return all(isinstance(part, nn.ReLU) for part in (layer.conv[1], layer.conv[3], layer.fuse))

    def prepare(self) -> None:
        """Make the biases what `map_kernels.scale_and_rectify` takes."""
        biases = [self.conv[i].bias.float() for i in (0, 2, 4)]
        self.tables = [torch.stack([torch.ones_like(bias), bias]) for bias in biases]

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, h, w] to maps of the same size."""
        h, rest = x, (None, None, self.skip(x))
        for i, table, residual in zip((0, 2, 4), self.tables, rest, strict=True):
            h = scale_and_rectify(self.conv[i]._conv_forward(h, self.conv[i].weight, None), table, residual)
        return h


class FusedDecoder(StandIn, Decoder):
    """The VAE's decoder, which computes its last norm and the SiLU behind it in one pass."""

    @classmethod
    def fits(cls, layer: Decoder) -> bool:
        """Whether it ends with a group norm and SiLU."""
        return isinstance(layer.conv_norm_out, nn.GroupNorm) and isinstance(layer.conv_act, nn.SiLU)

    def forward(self, sample: Tensor, latent_embeds: None = None) -> Tensor:
        """Latents [B, 4, h, w] to pictures [B, 3, 8 h, 8 w]."""
        x = self.mid_block(self.conv_in(sample), None)
        for block in self.up_blocks:
            x = block(x, None)
        return self.conv_out(norm_maps((x,), self.conv_norm_out, silu=True))
