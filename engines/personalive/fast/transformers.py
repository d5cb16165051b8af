"""Transformers of the UNet with their elementwise work fused, for CUDA with Triton.

Residuals, norms, positions and gates cost no pass of their own. The three projections of an attention are one product,
and so are the last two of a transformer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...gpu.map_kernels import add_maps, norm_maps
from ...gpu.swap import StandIn
from ..layers import TransformerBlock, attend, to_map, to_tokens
from ..modules import BlockContext, FrameTransformer, SpatialBlock, SpatialTransformer, TemporalAttention
from .kernels import add_norm, geglu, join_reference
from .temporal_attention import temporal_attention
from .token_attention import narrow_weights, token_attention

WIDEST_TAIL = 640  # wider layers have few places, and another 13 MB and more of weights would save little


class FusedTransformerBlock(StandIn, TransformerBlock):
    """A block that adds each residual where the next norm reads it."""

    def prepare(self) -> None:
        """Join queries, keys and values to one product; those of motion tokens get the tokens' own width."""
        self.weights = [
            side_by_side(attention.to_q, attention.to_k, attention.to_v)
            if isinstance(attention, TemporalAttention)
            else narrow_weights(attention)
            for attention in self.attention_blocks
        ]

    def attended(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tokens before the last attention's output is added to them, and that output, ``[F, N, C]`` each."""
        y = None
        for attention, norm, weight in zip(self.attention_blocks, self.norms, self.weights, strict=True):
            out = attention.to_out[0]
            if isinstance(attention, TemporalAttention):
                x, normed = add_norm(x, y, norm, attention.pos_encoder.pe[0])
                q, k, v = F.linear(normed, weight).chunk(3, -1)
                y = out(temporal_attention(q, k, v, attention.heads))
            else:
                ask, answer = weight
                x, normed = add_norm(x, y, norm)
                y = F.linear(token_attention(F.linear(normed, ask), context), answer, out.bias)
        return x, y


class FusedSpatialBlock(StandIn, SpatialBlock):
    """Takes queries, keys and values from one product; the image token is in the bias of the projection behind them."""

    def prepare(self) -> None:
        """Lay the weights side by side."""
        self.qkv = side_by_side(self.attn1.to_q, self.attn1.to_k, self.attn1.to_v)

    def attended(self, x: Tensor, context: BlockContext) -> tuple[Tensor, Tensor]:
        """See `FusedTransformerBlock.attended`."""
        out = self.attn1.to_out[0]
        normed = add_norm(x, None, self.norm1)[1]
        qkv = F.linear(normed, self.qkv)
        q, k, v = qkv.chunk(3, -1)
        if context.keys is not None:
            k, v = join_reference(qkv, context.keys, context.values)
        y = attend(q, k, v, self.attn1.heads)
        return x, F.linear(y, out.weight, out.bias + context.image)


class _Tail(StandIn):
    """The end of a transformer: residual, norm, feed-forward, residual, projection; the last two products as one.

    ``P (z + W h + b) + c`` is ``[P W, P] [h; z] + P b + c``, which saves writing and reading what is in between.
    """

    fused_weight: Tensor | None = None

    def prepare(self) -> None:
        """Multiply the weights."""
        linear, out = self.transformer_blocks[0].ff.net[2], self.proj_out
        if linear.out_features > WIDEST_TAIL:
            return
        outer = out.weight.flatten(1).float()
        joined = torch.cat([outer @ linear.weight.float(), outer], 1)
        self.fused_weight = joined.to(out.weight.dtype)
        self.fused_bias = (outer @ linear.bias.float() + out.bias.float()).to(out.weight.dtype)

    def _tail(self, x: Tensor, y: Tensor, norm: nn.LayerNorm) -> Tensor:
        """``x + y``, tokens ``[F, N, C]`` each, through the rest of the transformer."""
        gate, linear = self.transformer_blocks[0].ff.net[0].proj, self.transformer_blocks[0].ff.net[2]
        out = self.proj_out
        if self.fused_weight is None:
            x, normed = add_norm(x, y, norm)
            x = x + linear(geglu(gate(normed)))
            return F.linear(x, out.weight.flatten(1), out.bias)
        joint = x.new_empty((*x.shape[:-1], self.fused_weight.shape[1]))
        gated, total = joint.split([linear.in_features, linear.out_features], -1)
        normed = add_norm(x, y, norm, total=total)[1]
        geglu(gate(normed), gated)
        return F.linear(joint, self.fused_weight, self.fused_bias)


class FusedSpatialTransformer(_Tail, SpatialTransformer):
    """See `_Tail`."""

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """See `modules.SpatialTransformer`."""
        block = self.transformer_blocks[0]
        tokens = F.linear(
            to_tokens(norm_maps((x,), self.norm)), self.proj_in.weight.flatten(1), self.proj_in.bias
        )
        return add_maps(x, to_map(self._tail(*block.attended(tokens, context), block.norm3), x))


class FusedFrameTransformer(_Tail, FrameTransformer):
    """See `_Tail`."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """See `modules.FrameTransformer`."""
        block = self.transformer_blocks[0]
        tokens = self.proj_in(to_tokens(norm_maps((x,), self.norm)))
        return add_maps(x, to_map(self._tail(*block.attended(tokens, context), block.ff_norm), x))


def side_by_side(*layers: nn.Linear) -> Tensor:
    """One weight ``[sum of outputs, C]`` for several projections; theirs become parts of it, so that none exists
    twice."""
    joined = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, joined.split([len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part
    return joined
