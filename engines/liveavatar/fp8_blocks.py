"""Transformer layers with float8 matrix products: weights quantised per output row, activations per token.

An `Fp8Block` computes what the `Block` it is made from does, from quantised weights, with the
work between the products in the kernels of `row_kernels`. Residuals, norms and attention keep their formats. (The
reference scales whole tensors; per row costs the same, and a loud token or channel takes nothing from the others.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..gpu import row_kernels as kernels
from ..gpu.fp8 import Fp8Linear
from ..gpu.offload import WaitingBlock
from ..gpu.row_kernels import Rows
from ..parts.attention.product import attention
from ..parts.wan.rope import Rotation
from .attention import Attention
from .transformer import Block, S2VTransformer, TextKV


class Fp8Attention(nn.Module):
    """`Attention` with float8 weights."""

    def __init__(self, source: Attention) -> None:
        super().__init__()
        self.num_heads, self.eps = source.num_heads, source.norm_q.eps
        self.q, self.k, self.v, self.o = (
            Fp8Linear.from_linear(layer) for layer in (source.q, source.k, source.v, source.o)
        )
        self.register_buffer("norm_q", source.norm_q.weight[None])
        self.register_buffer("norm_k", source.norm_k.weight[None])

    def query(self, x: Tensor | Rows) -> Tensor:
        """[B, tokens, dim], or rows, -> [B, tokens, heads, head_dim]."""
        return self._heads(self.q, x, self.norm_q)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, tokens, dim] -> keys and values, each [B, tokens, heads, head_dim]."""
        rows = kernels.quantise(x)
        k = self._heads(self.k, rows, self.norm_k)
        v = self.v(rows).unflatten(-1, (self.num_heads, -1))
        return k.view(*x.shape[:-1], *k.shape[2:]), v.view(*x.shape[:-1], *v.shape[2:])

    def output(self, x: Tensor) -> Tensor:
        """[B, tokens, heads, head_dim] -> [B, tokens, dim]."""
        return self.o(x.flatten(2))

    def _heads(self, layer: Fp8Linear, x: Tensor | Rows, weight: Tensor) -> Tensor:
        out = kernels.rms_norm(layer(x).flatten(0, 1), weight, self.eps, self.num_heads)
        return out if isinstance(x, Rows) else out.view(*x.shape[:-1], *out.shape[2:])


class Fp8SelfAttention(nn.Module):
    """`Attention` whose queries, keys and values come from the same rows, in one product."""

    def __init__(self, source: Attention) -> None:
        super().__init__()
        self.num_heads, self.eps = source.num_heads, source.norm_q.eps
        self.qkv, self.o = (
            Fp8Linear.from_linear(source.q, source.k, source.v),
            Fp8Linear.from_linear(source.o),
        )
        self.register_buffer("norms", torch.stack((source.norm_q.weight, source.norm_k.weight)))

    def query_key_value(self, x: Rows, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Rows -> queries and keys, normed and turned, and values, each [1, tokens, heads, head_dim]."""
        product = self.qkv(x)
        q, k = kernels.rms_norm(product[0], self.norms, self.eps, self.num_heads, rotation).split(1)
        v = product.chunk(3, 2)[2].unflatten(2, (self.num_heads, -1))
        return q, k, v

    def output(self, x: Tensor) -> Tensor:
        """[1, tokens, heads, head_dim] -> [1, tokens, dim]."""
        return self.o(x.flatten(2))


class Fp8Block(nn.Module):
    """`Block` with float8 weights; the same calls."""

    def __init__(self, source: Block) -> None:
        super().__init__()
        self.eps = source.eps
        self.self_attn = Fp8SelfAttention(source.self_attn)
        self.cross_attn = Fp8Attention(source.cross_attn)
        self.up, self.down = Fp8Linear.from_linear(source.ffn[0]), Fp8Linear.from_linear(source.ffn[2])
        self.register_buffer("norm3_weight", source.norm3.weight.detach())
        self.register_buffer("norm3_bias", source.norm3.bias.detach())
        self.register_buffer("modulation", source.modulation.detach().float())

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: TextKV,
        attend: Callable[..., Tensor],
        rotation: Rotation | None = None,
    ) -> Tensor:
        """As `Block.forward`."""
        dtype, eps = x.dtype, self.eps
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation[0] + modulation
        y = kernels.modulate(x, shift1, scale1, eps, None)
        q, k, v = self.self_attn.query_key_value(y, rotation)
        y = self.self_attn.output(attend(q, k, v))
        x = kernels.add(x, y, gate1)
        y = kernels.norm(x, self.norm3_weight, self.norm3_bias, eps)
        x = kernels.add(x, self.cross_attn.output(attention(self.cross_attn.query(y), *text)))
        y = self.up(kernels.modulate(x, shift2, scale2, eps, None))
        y = self.down(kernels.quantise(y, gelu=True))
        return kernels.total(kernels.add(x, y, gate2), dtype)


@torch.no_grad()
def quantise_transformer(
    model: S2VTransformer, waiting: Sequence[int] = (), bring: Callable[[int], None] = lambda index: None
) -> list[WaitingBlock]:
    """Replace the audio injection and the blocks of ``model`` by float8 ones, one after the other, in place.

    The layers must hold ordinary weights. What the reference keeps out of float8 (embeddings, head, audio encoder)
    stays as it is.

    Args:
        waiting: the numbers of blocks that wait in CPU memory afterwards, in ascending order.
        bring: called with a block's number before it is replaced, to have its weights where they are quantised.

    Returns:
        The blocks that wait, for `BlockOffload`.
    """
    injectors = model.audio_injector.injector
    for index, injector in enumerate(injectors):
        injectors[index] = Fp8Attention(injector)
    resting = []
    for index in range(len(model.blocks)):
        bring(index)
        model.blocks[index] = Fp8Block(model.blocks[index])
        if index in waiting:
            resting.append(WaitingBlock(model.blocks[index]))
    return resting
