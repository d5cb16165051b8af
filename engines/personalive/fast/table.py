"""The layers that others stand in for where PersonaLive runs fast."""

from __future__ import annotations

from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.models.upsampling import Upsample2D
from torch import nn

from ...gpu.swap import Table
from ...parts.face.motion_extractor import Block
from ..denoising_unet import UpStage
from ..layers import TransformerBlock
from ..modules import FrameTransformer, SpatialBlock, SpatialTransformer
from ..motion_encoder import ConvBlock
from .convolutions import (
    FusedDecoder,
    FusedDownsample,
    FusedResnet,
    FusedTinyBlock,
    FusedUpsample,
    FusedUpStage,
)
from .group_norm import ChannelsLastGroupNorm
from .picture_attention import FusedPictureAttention
from .reading import FusedConvBlock, FusedExtractorBlock, FusedGEGLU
from .transformers import (
    FusedFrameTransformer,
    FusedSpatialBlock,
    FusedSpatialTransformer,
    FusedTransformerBlock,
)

NORMS: Table = {nn.GroupNorm: ChannelsLastGroupNorm}
"""Stand-ins for any network, even a compiled one."""
DRAWING: Table = {
    ResnetBlock2D: FusedResnet,
    Upsample2D: FusedUpsample,
    Downsample2D: FusedDownsample,
    UpStage: FusedUpStage,
    TransformerBlock: FusedTransformerBlock,
    FrameTransformer: FusedFrameTransformer,
    SpatialBlock: FusedSpatialBlock,
    SpatialTransformer: FusedSpatialTransformer,
    Attention: FusedPictureAttention,
    AutoencoderTinyBlock: FusedTinyBlock,
    Decoder: FusedDecoder,
}
"""Stand-ins for the denoising UNet and the decoders where they are not compiled."""
READING: Table = {ConvBlock: FusedConvBlock, GEGLU: FusedGEGLU, Block: FusedExtractorBlock}
"""Stand-ins for the motion encoder and the motion extractor."""
