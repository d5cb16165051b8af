"""Layers of LongCat's blocks, with the checkpoint's parameter names.

A layer computes in the number format of its input, whatever its weights are stored in: what the model needs in float32
is handed in as float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.precision import layer_norm
from .config import EPS


class Linear(nn.Linear):
    """A linear layer that computes in its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """A layer norm with parameters: computed in float32, returned in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class HeadNorm(nn.Module):
    """RMS norm of each head: float32 inside, rounded to the input's dtype, then times the weight."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], eps=EPS).to(x.dtype) * self.weight.to(x.dtype)


class SelfAttention(nn.Module):
    """Projections of the self-attention; queries and keys are normalised per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = HeadNorm(dim // heads), HeadNorm(dim // heads)
        self.proj = Linear(dim, dim)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[1, tokens, dim] -> three of [1, tokens, heads, head_dim]; nothing is rotated yet."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.q_norm(q), self.k_norm(k), v

    def output(self, x: Tensor) -> Tensor:
        """[1, tokens, heads, head_dim] -> [1, tokens, dim]."""
        return self.proj(x.flatten(2))


class CrossAttention(nn.Module):
    """Projections of an attention to text or speech; queries and keys are normalised per head."""

    def __init__(self, dim: int, heads: int, other_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = Linear(dim, dim)
        self.kv_linear = Linear(other_dim, 2 * dim)
        self.q_norm, self.k_norm = HeadNorm(dim // heads), HeadNorm(dim // heads)
        self.proj = Linear(dim, dim)

    def query(self, x: Tensor) -> Tensor:
        """[B, tokens, dim] -> [B, tokens, heads, head_dim]."""
        return self.q_norm(self.q_linear(x).unflatten(-1, (self.heads, -1)))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, tokens, other_dim] -> keys and values [B, tokens, heads, head_dim]."""
        k, v = self.kv_linear(x).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.k_norm(k), v

    def output(self, x: Tensor) -> Tensor:
        """[B, tokens, heads, head_dim] -> [B, tokens, dim]."""
        return self.proj(x.flatten(2))


class FeedForward(nn.Module):
    """SwiGLU without biases."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, width, bias=False)
        self.w2 = Linear(width, dim, bias=False)
        self.w3 = Linear(dim, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, dim] -> the same shape."""
        return self.w2(F.silu(self.w1(x)).mul_(self.w3(x)))


def modulation(dim: int, time_dim: int, vectors: int) -> nn.Sequential:
    """What a time embedding makes of itself for a layer: ``vectors`` vectors, one behind the other."""
    return nn.Sequential(nn.SiLU(), Linear(time_dim, vectors * dim))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm of ``x`` [1, tokens, dim], scaled and shifted per latent by [latents or 1, dim]; computed in float32,
    returned in that of ``x``."""
    normed = layer_norm(x, EPS).unflatten(1, (len(shift), -1))
    return (normed * (1 + scale[:, None]) + shift[:, None]).flatten(1, 2).to(x.dtype)


def add_gated(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """``x + gate * y`` with a gate per latent [latents or 1, dim]; summed in float32, returned in that of ``x``."""
    gated = y.float().unflatten(1, (len(gate), -1)) * gate[:, None]
    return gated.flatten(1, 2).add_(x).to(x.dtype)
