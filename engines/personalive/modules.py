"""PersonaLive's additions to the spatial UNet: the reference-aware transformer, the motion and temporal modules.

Frames are the batch everywhere; feature maps are ``[F, C, h, w]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from .fast.temporal_attention import temporal_attention
from .layers import Attention, TransformerBlock, attend, sincos, to_map, to_tokens
from .reference_bank import BlockContext


class SpatialBlock(nn.Module):
    """Self-attention that also reads the reference's features, the image token, feed-forward."""

    def __init__(self, dim: int, heads: int, context_dim: int):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, heads, context_dim)
        self.norm3, self.ff = nn.LayerNorm(dim), FeedForward(dim, activation_fn="geglu")

    def image_output(self, token: Tensor) -> Tensor:
        """Cross-attention output ``[C]`` for one image token ``[context_dim]``."""
        return self.attn2.to_out[0](self.attn2.to_v(token))

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        y = self.norm1(x)
        q, k, v = self.attn1.to_q(y), self.attn1.to_k(y), self.attn1.to_v(y)
        if context.keys is not None:
            k = torch.cat([k, context.keys.expand(len(k), -1, -1)], 1)
            v = torch.cat([v, context.values.expand(len(v), -1, -1)], 1)
        x = x + self.attn1.to_out[0](attend(q, k, v, self.attn1.heads)) + context.image
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Stable Diffusion's spatial transformer with `SpatialBlock` inside."""

    def __init__(self, dim: int, heads: int, context_dim: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, dim, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(dim, heads, context_dim)])

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        # The 1x1 convolutions are linear layers on tokens, and tokens are a view of channels-last maps.
        tokens = F.linear(to_tokens(self.norm(x)), self.proj_in.weight.flatten(1), self.proj_in.bias)
        tokens = self.transformer_blocks[0](tokens, context)
        tokens = F.linear(tokens, self.proj_out.weight.flatten(1), self.proj_out.bias)
        return x + to_map(tokens, x)


class PositionTable(nn.Module):
    """Interleaved sine and cosine of the frame's place in the window, a buffer of the checkpoint."""

    def __init__(self, dim: int, length: int):
        super().__init__()
        sine, cosine = sincos(torch.arange(length), dim)
        self.register_buffer("pe", torch.stack([sine, cosine], -1).flatten(1).float()[None])


class TemporalAttention(Attention):
    """Self-attention over the frames of the window, separately at every place of the picture."""

    def __init__(self, dim: int, heads: int, length: int):
        super().__init__(dim, heads)
        self.pos_encoder = PositionTable(dim, length)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``[F, N, C]``; the position enters queries, keys and values. No mask, no context."""
        x = x + self.pos_encoder.pe[0, : len(x), None].to(x.dtype)
        y = temporal_attention(self.to_q(x), self.to_k(x), self.to_v(x), self.heads)
        return self.to_out[0](y)


class FrameTransformer(nn.Module):
    """Norm, projection, transformer block, projection, residual: the skeleton of both extra modules."""

    def __init__(self, dim: int, attentions: list[nn.Module]):
        super().__init__()
        self.norm = nn.GroupNorm(32, dim, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(dim, attentions)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.transformer_blocks[0](self.proj_in(to_tokens(self.norm(x))), context)
        return x + to_map(self.proj_out(tokens), x)


class MotionModule(nn.Module):
    """Every frame reads its own motion tokens ``[F, 32, 16]``."""

    def __init__(self, dim: int, heads: int, motion_width: int):
        super().__init__()
        attentions = [Attention(dim, heads, motion_width) for _ in range(2)]
        self.temporal_transformer = FrameTransformer(dim, attentions)

    def forward(self, x: Tensor, motion: Tensor) -> Tensor:
        return self.temporal_transformer(x, motion)


class TemporalModule(nn.Module):
    """Every place reads itself in the other frames of the window."""

    def __init__(self, dim: int, heads: int, length: int):
        super().__init__()
        attentions = [TemporalAttention(dim, heads, length) for _ in range(2)]
        self.temporal_transformer = FrameTransformer(dim, attentions)

    def forward(self, x: Tensor) -> Tensor:
        return self.temporal_transformer(x)
