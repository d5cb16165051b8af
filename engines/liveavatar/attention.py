"""Attention projections with the checkpoint's parameter names."""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """The projections of one multi-head attention; queries and keys are RMS-normalised over all channels.

    Self-, text and audio attention share this module and differ in where queries, keys and values meet.
    """

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def query(self, x: Tensor) -> Tensor:
        """[B, tokens, dim] -> [B, tokens, heads, head_dim]."""
        return self._heads(self.norm_q(self.q(x)))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, tokens, dim] -> keys and values, each [B, tokens, heads, head_dim]; keys are not rotated."""
        return self._heads(self.norm_k(self.k(x))), self._heads(self.v(x))

    def output(self, x: Tensor) -> Tensor:
        """[B, tokens, heads, head_dim] -> [B, tokens, dim]."""
        return self.o(x.flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))
