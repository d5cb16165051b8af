"""The blocks of the UNet and of the decoder with their elementwise work fused, for CUDA with Triton.

Every class here is a drop-in for the one it derives from, with the same weights; :func:`use_fused` changes the
class of modules in place, and :func:`use_plain` changes it back. What is saved is passes over the feature maps: the
bias of a convolution (a pass of its own in PyTorch), SiLU, the time embedding and the residual of a resnet; the
residuals, norms, positions and gates of a transformer; and the three projections of an attention are one product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from .fused_kernels import add_maps, add_norm, geglu
from .group_norm import channels_last_group_norm
from .layers import Attention, TransformerBlock, attend, to_map, to_tokens
from .modules import BlockContext, SpatialBlock, TemporalAttention
from .temporal_attention import temporal_attention


class FusedResnet(ResnetBlock2D):
    """A resnet without time embedding or with one that is added."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None, *args, **kwargs) -> Tensor:
        """``[B, C, h, w]`` and ``[B, T]``."""
        x = input_tensor.contiguous(memory_format=torch.channels_last)
        h = self.conv1._conv_forward(_norm_silu(x, self.norm1), self.conv1.weight, None)
        raised = self.conv1.bias
        if temb is not None:
            raised = self.time_emb_proj(F.silu(temb)) + raised
        h = self.conv2._conv_forward(_norm_silu(h, self.norm2, raised), self.conv2.weight, None)
        bias = self.conv2.bias
        if self.conv_shortcut is not None:
            bias = bias + self.conv_shortcut.bias
            x = to_map(F.linear(to_tokens(x), self.conv_shortcut.weight.flatten(1)), x)
        return add_maps(x, h, bias)


class FusedUpsample(Upsample2D):
    """Nearest neighbours and a 3x3 convolution as one 2x2 convolution of the small map.

    Every second row of the large map sees only two rows of the small one, and so do the columns: four sets of
    2x2 weights, sums of the 3x3 ones, make the four pixels. It takes 4/9 of the arithmetic and no large map but
    the result.
    """

    def prepare(self) -> None:
        """Add up the weights; again when they have changed."""
        weight = self.conv.weight.float()
        # rows (and columns) of the small map seen by the first and by the second of two large ones
        first = torch.tensor([[1.0, 0, 0], [0, 1, 1]], device=weight.device)
        second = torch.tensor([[1.0, 1, 0], [0, 0, 1]], device=weight.device)
        parts = [
            torch.einsum("oiyx,ay,bx->oiab", weight, down, across)
            for down in (first, second)
            for across in (first, second)
        ]
        parts = torch.cat(parts).to(self.conv.weight.dtype)
        self.fused_weight = parts.contiguous(memory_format=torch.channels_last)

    def forward(self, hidden_states: Tensor, output_size: int | None = None, *args, **kwargs) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C, 2 h, 2 w]``."""
        x = hidden_states.contiguous(memory_format=torch.channels_last)
        batch, _, height, width = x.shape
        pixels = F.conv2d(x, self.fused_weight, padding=1).unflatten(1, (2, 2, -1))
        out = x.new_empty((batch, 2 * height, 2 * width, pixels.shape[3])).permute(0, 3, 1, 2)
        bias = self.conv.bias[:, None, None]
        for i in range(2):
            for j in range(2):
                part = pixels[:, i, j, :, i : i + height, j : j + width]
                torch.add(part, bias, out=out[:, :, i::2, j::2])
        return out


class FusedGEGLU(GEGLU):
    """The gate in one pass."""

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """``[..., C]``."""
        return geglu(self.proj(hidden_states))


class FusedTransformerBlock(TransformerBlock):
    """Each residual is added where the next norm reads it."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """See :class:`.layers.TransformerBlock`."""
        y = None
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            temporal = isinstance(attention, TemporalAttention)
            table = attention.pos_encoder.pe[0] if temporal else None
            x, normed = add_norm(x, y, norm.weight, norm.bias, norm.eps, table)
            if temporal:
                q, k, v = F.linear(normed, attention.fused_weight).chunk(3, -1)
                y = temporal_attention(q, k, v, attention.heads)
            else:
                k, v = F.linear(context, attention.fused_weight).chunk(2, -1)
                y = attend(attention.to_q(normed), k, v, attention.heads)
            y = attention.to_out[0](y)
        x, normed = add_norm(x, y, self.ff_norm.weight, self.ff_norm.bias, self.ff_norm.eps)
        return x + self.ff(normed)


class FusedSpatialBlock(SpatialBlock):
    """Queries, keys and values from one product, the image token in the bias of the projection behind them."""

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """See :class:`.modules.SpatialBlock`."""
        attention, out = self.attn1, self.attn1.to_out[0]
        x, normed = add_norm(x, None, self.norm1.weight, self.norm1.bias, self.norm1.eps)
        qkv = F.linear(normed, attention.fused_weight)
        q, kv = qkv.tensor_split((normed.shape[-1],), -1)
        if context.keys is not None:
            reference = torch.cat([context.keys, context.values], -1)
            kv = torch.cat([kv, reference.expand(len(kv), -1, -1)], 1)
        y = attend(q, *kv.chunk(2, -1), attention.heads)
        y = F.linear(y, out.weight, out.bias + context.image)
        x, normed = add_norm(x, y, self.norm3.weight, self.norm3.bias, self.norm3.eps)
        return x + self.ff(normed)


def use_fused(module: nn.Module) -> nn.Module:
    """Turn every block in a module that has a fused version into that, in place, with its weights.

    The weights must be where they are to be used: some are laid side by side for it.
    """
    for child in module.modules():
        kind = FUSED.get(type(child))
        if kind is None or (type(child) in FITS and not FITS[type(child)](child)):
            continue
        child.__class__ = kind
        if kind is FusedUpsample:
            child.prepare()
        elif kind is FusedSpatialBlock:
            _side_by_side(child.attn1, ("to_q", "to_k", "to_v"))
        elif kind is FusedTransformerBlock:
            for attention in child.attention_blocks:
                temporal = isinstance(attention, TemporalAttention)
                _side_by_side(attention, ("to_q", "to_k", "to_v") if temporal else ("to_k", "to_v"))
    return module


def use_plain(module: nn.Module) -> nn.Module:
    """Undo :func:`use_fused`."""
    back = {fused: plain for plain, fused in FUSED.items()}
    for child in module.modules():
        child.__class__ = back.get(type(child), type(child))
        child.__dict__.pop("fused_weight", None)
    return module


def _side_by_side(attention: Attention, names: tuple[str, ...]) -> None:
    """One weight for several projections; theirs become parts of it, so that none exists twice."""
    layers = [getattr(attention, name) for name in names]
    joined = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, joined.split([len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part
    attention.fused_weight = joined


def _norm_silu(x: Tensor, norm: nn.GroupNorm, add: Tensor | None = None) -> Tensor:
    return channels_last_group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps, add, silu=True)


def _ordinary(resnet: ResnetBlock2D) -> bool:
    return (
        resnet.upsample is None
        and resnet.downsample is None
        and (resnet.time_emb_proj is None or resnet.time_embedding_norm == "default")
        and resnet.time_embedding_norm in ("default", "group")  # plain norms, where no time comes in
        and not resnet.skip_time_act
        and isinstance(resnet.nonlinearity, nn.SiLU)
        and resnet.output_scale_factor == 1.0
    )


def _nearest(layer: Upsample2D) -> bool:
    return (
        layer.use_conv
        and layer.interpolate
        and not layer.use_conv_transpose
        and layer.norm is None
        and layer.conv.kernel_size == (3, 3)
        and layer.conv.bias is not None
    )


FUSED: dict[type[nn.Module], type[nn.Module]] = {
    ResnetBlock2D: FusedResnet,
    Upsample2D: FusedUpsample,
    GEGLU: FusedGEGLU,
    TransformerBlock: FusedTransformerBlock,
    SpatialBlock: FusedSpatialBlock,
}
FITS = {ResnetBlock2D: _ordinary, Upsample2D: _nearest}
