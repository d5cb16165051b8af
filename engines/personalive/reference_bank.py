"""The portrait's features (and those of remembered keyframes) as keys and values of the denoising UNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .denoising_unet import DenoisingUNet


class BlockContext(NamedTuple):
    """The portrait as one spatial transformer block reads it; constant until a keyframe is added.

    Attributes:
        keys, values: ``[1, n * tokens, C]`` of the reference and of every keyframe, or None without a reference.
        image: ``[C]``, the block's whole cross-attention output (its softmax over a single token is 1).
    """

    keys: Tensor | None
    values: Tensor | None
    image: Tensor


class ReferenceBank:
    """Projects each picture's features once; every pass then reads finished keys and values.

    Args:
        rounding: type of the features; the reference keeps them in float16 whatever the model's type. None keeps the
            model's type.
    """

    def __init__(self, unet: DenoisingUNet, image_token: Tensor, rounding: torch.dtype | None = None):
        self.blocks = unet.spatial_blocks()
        self.dtype = unet.conv_in.weight.dtype
        self.rounding = rounding or self.dtype
        token = image_token.flatten().to(self.dtype)
        self.contexts = [
            BlockContext(None, None, block.image_output(token)) for block in self.blocks.values()
        ]

    def add(self, features: dict[str, Tensor]) -> None:
        """Append one picture's features ``{block path: [1, tokens, C]}``; the first is the portrait's."""
        contexts = []
        for (name, block), context in zip(self.blocks.items(), self.contexts, strict=True):
            feature = features[name].to(self.rounding).to(self.dtype)
            keys, values = block.attn1.project_context(feature)
            if context.keys is not None:
                keys, values = torch.cat([context.keys, keys], 1), torch.cat([context.values, values], 1)
            contexts.append(BlockContext(keys, values, context.image))
        self.contexts = contexts
