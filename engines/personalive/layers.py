"""Attention pieces that the motion encoder and the denoising UNet share; names follow the checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of ``[B, Q, C]`` over ``[B, K, C]``, returns ``[B, Q, C]``."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """The four projections of an attention layer: no bias on q, k, v, a bias on the output."""

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, inner_dim: int | None = None):
        super().__init__()
        inner = inner_dim or dim
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, dim)])

    def project_context(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``[B, K, context_dim]``."""
        return self.to_k(context), self.to_v(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``[B, Q, dim]`` attends over the context (itself by default)."""
        k, v = self.project_context(x if context is None else context)
        return self.to_out[0](attend(self.to_q(x), k, v, self.heads))


class TransformerBlock(nn.Module):
    """Pre-norm attention layers one after another, then a GEGLU feed-forward, all residual."""

    def __init__(self, dim: int, attentions: list[nn.Module]):
        super().__init__()
        self.attention_blocks = nn.ModuleList(attentions)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in attentions)
        self.ff = FeedForward(dim, activation_fn="geglu")
        self.ff_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens ``[B, N, dim]`` with the context of the attention layers."""
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x), context)
        return x + self.ff(self.ff_norm(x))


def to_tokens(x: Tensor) -> Tensor:
    """``[B, C, h, w]`` to ``[B, h*w, C]``, a view for channels-last tensors."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(tokens: Tensor, like: Tensor) -> Tensor:
    """``[B, h*w, C]`` to a channels-last ``[B, C, h, w]`` with the height and width of ``like``."""
    return tokens.unflatten(1, like.shape[-2:]).permute(0, 3, 1, 2)


def sincos(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine ``[N, width/2]`` of positions times the usual geometric frequencies (base 10000)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = positions.double()[:, None] * rates
    return angles.sin(), angles.cos()
