"""Layers of LongCat's blocks, with the checkpoint's parameter names.

A layer computes in the number format of its input, whatever its weights are stored in: what the model needs in float32
is handed in as float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gpu.row_kernels import Rows
from ..parts import regions
from ..parts.wan.rope import Rotation
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
    """The weight of an RMS norm that each head gets; see `heads_of`."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))


def heads_of(x: Tensor, heads: int, *norms: HeadNorm, rotation: Rotation | None = None) -> tuple[Tensor, ...]:
    """The first parts of ``x`` [B, tokens, parts * dim], one for each of ``norms``, normed and turned if asked; each
    [B, tokens, heads, head_dim]."""
    weights = torch.stack([norm.weight for norm in norms])
    return regions.head_norm(x, weights, EPS, heads, rotation).unbind()


class SelfAttention(nn.Module):
    """Projections of the self-attention; queries and keys are normalised per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = HeadNorm(dim // heads), HeadNorm(dim // heads)
        self.proj = Linear(dim, dim)

    def query_key_value(self, x: Tensor | Rows, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """[1, tokens, dim] -> turned queries and keys, and values, each [1, tokens, heads, head_dim]."""
        product = self.qkv(x)
        q, k = heads_of(product, self.heads, self.q_norm, self.k_norm, rotation=rotation)
        return q, k, product.chunk(3, 2)[2].unflatten(2, (self.heads, -1))

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

    def query(self, x: Tensor | Rows) -> Tensor:
        """[1, tokens, dim] -> [1, tokens, heads, head_dim]."""
        return heads_of(self.q_linear(x), self.heads, self.q_norm)[0]

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, tokens, other_dim] -> keys and values [B, tokens, heads, head_dim]."""
        product = self.kv_linear(x)
        (k,) = heads_of(product, self.heads, self.k_norm)
        return k, product.chunk(2, 2)[1].unflatten(2, (self.heads, -1))

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

    def forward(self, x: Tensor | Rows, dtype: torch.dtype | None) -> Tensor:
        """[1, tokens, dim] -> the same shape; ``dtype`` is what the last layer takes, None float8 rows."""
        return self.w2(regions.swiglu(self.w1(x), self.w3(x), dtype))


def modulation(dim: int, time_dim: int, vectors: int) -> nn.Sequential:
    """What a time embedding makes of itself for a layer: ``vectors`` vectors, one behind the other."""
    return nn.Sequential(nn.SiLU(), Linear(time_dim, vectors * dim))
