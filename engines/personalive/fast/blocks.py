"""The blocks of the UNet and of the decoder with their elementwise work fused, for CUDA with Triton.

Every class here is a drop-in for the one it derives from, with the same weights; :func:`use_fused` changes the
class of modules in place, and :func:`use_plain` changes it back. What is saved is passes over the feature maps: the
bias of a convolution (a pass of its own in PyTorch), SiLU, the time embedding and the residual of a resnet; the sums
of a group norm, added up by whatever makes its map; the residuals, norms, positions and gates of a transformer. The
three projections of an attention are one product, and so are the last two of a transformer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention as PictureAttention
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ...gpu.map_kernels import Raise, add_maps, norm_maps, scale_and_rectify, spread_pixels
from ..denoising_unet import UpStage
from ..layers import TransformerBlock, attend, to_map, to_tokens
from ..modules import BlockContext, FrameTransformer, SpatialBlock, SpatialTransformer, TemporalAttention
from .kernels import add_norm, geglu, join_reference
from .picture_attention import picture_attention
from .temporal_attention import temporal_attention
from .token_attention import narrow_weights, token_attention

WIDEST_TAIL = 640  # wider layers have few places, and another 13 MB and more of weights would save little


class FusedResnet(ResnetBlock2D):
    """A resnet without time embedding or with one that is added."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None, *args, **kwargs) -> Tensor:
        """``[B, C, h, w]`` and ``[B, T]``."""
        return self.joined((input_tensor,), temb)

    def joined(self, parts: Sequence[Tensor], temb: Tensor | None) -> Tensor:
        """The same for one or two maps that lie side by side in channels."""
        h = self.conv1._conv_forward(norm_maps(parts, self.norm1, silu=True), self.conv1.weight, None)
        raised = None if temb is None else self.time_emb_proj(F.silu(temb))
        h = norm_maps((h,), self.norm2, Raise(raised, self.conv1.bias), silu=True)
        h = self.conv2._conv_forward(h, self.conv2.weight, None)
        return add_maps(self._shortcut(parts), h, self.conv2.bias)

    def _shortcut(self, parts: Sequence[Tensor]) -> Tensor:
        if self.conv_shortcut is None:
            return parts[0]
        weights = self.conv_shortcut.weight.flatten(1).split([part.shape[1] for part in parts], 1)
        tokens = F.linear(to_tokens(parts[0]), weights[0], self.conv_shortcut.bias)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            tokens.flatten(0, 1).addmm_(to_tokens(part).flatten(0, 1), weight.t())
        return to_map(tokens, parts[0])


class FusedUpStage(UpStage):
    """Skip connections are read where they are."""

    def merged(self, resnet: FusedResnet, x: Tensor, skip: Tensor, temb: Tensor) -> Tensor:
        """See :meth:`.denoising_unet.UpStage.merged`."""
        return resnet.joined((x, skip), temb)


class FusedDownsample(Downsample2D):
    """The bias is added by what sums up the map."""

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C, h / 2, w / 2]``."""
        return add_maps(self.conv._conv_forward(hidden_states, self.conv.weight, None), None, self.conv.bias)


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
        return spread_pixels(F.conv2d(x, self.fused_weight, padding=1), self.conv.bias)


class FusedTransformerBlock(TransformerBlock):
    """Each residual is added where the next norm reads it."""

    def prepare(self) -> None:
        """Queries, keys and values as one product; those of motion tokens in the tokens' own width."""
        for attention in self.attention_blocks:
            if isinstance(attention, TemporalAttention):
                _side_by_side(attention, ("to_q", "to_k", "to_v"))
            else:
                attention.fused_weight, attention.fused_out = narrow_weights(attention)

    def attended(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tokens before the last attention's output is added to them, and that output."""
        y = None
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            out = attention.to_out[0]
            if isinstance(attention, TemporalAttention):
                x, normed = add_norm(x, y, norm, attention.pos_encoder.pe[0])
                q, k, v = F.linear(normed, attention.fused_weight).chunk(3, -1)
                y = out(temporal_attention(q, k, v, attention.heads))
            else:
                x, normed = add_norm(x, y, norm)
                tokens = token_attention(F.linear(normed, attention.fused_weight), context)
                y = F.linear(tokens, attention.fused_out, out.bias)
        return x, y


class FusedSpatialBlock(SpatialBlock):
    """Queries, keys and values from one product, the image token in the bias of the projection behind them."""

    def prepare(self) -> None:
        """Lay the weights side by side."""
        _side_by_side(self.attn1, ("to_q", "to_k", "to_v"))

    def attended(self, x: Tensor, context: BlockContext) -> tuple[Tensor, Tensor]:
        """See :meth:`FusedTransformerBlock.attended`."""
        out = self.attn1.to_out[0]
        normed = add_norm(x, None, self.norm1)[1]
        qkv = F.linear(normed, self.attn1.fused_weight)
        q, k, v = qkv.chunk(3, -1)
        if context.keys is not None:
            k, v = join_reference(qkv, context.keys, context.values)
        y = attend(q, k, v, self.attn1.heads)
        return x, F.linear(y, out.weight, out.bias + context.image)


class _Tail:
    """The end of a transformer: residual, norm, feed-forward, residual, projection; the last two products as one.

    ``P (z + W h + b) + c`` is ``[P W, P] [h; z] + P b + c``, which saves writing and reading what is in between.
    """

    fused_weight: Tensor | None = None

    def _prepare_tail(self) -> None:
        linear, out = self.transformer_blocks[0].ff.net[2], self.proj_out
        if linear.out_features > WIDEST_TAIL:
            return
        outer = out.weight.flatten(1).float()
        joined = torch.cat([outer @ linear.weight.float(), outer], 1)
        self.fused_weight = joined.to(out.weight.dtype)
        self.fused_bias = (outer @ linear.bias.float() + out.bias.float()).to(out.weight.dtype)

    def _tail(self, x: Tensor, y: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Of tokens and what is to be added to them ``[F, N, C]``."""
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
    """See :class:`_Tail`."""

    def prepare(self) -> None:
        """Multiply the weights."""
        self._prepare_tail()

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """See :class:`.modules.SpatialTransformer`."""
        block = self.transformer_blocks[0]
        tokens = F.linear(
            to_tokens(norm_maps((x,), self.norm)), self.proj_in.weight.flatten(1), self.proj_in.bias
        )
        return add_maps(x, to_map(self._tail(*block.attended(tokens, context), block.norm3), x))


class FusedFrameTransformer(_Tail, FrameTransformer):
    """See :class:`_Tail`."""

    def prepare(self) -> None:
        """Multiply the weights."""
        self._prepare_tail()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """See :class:`.modules.FrameTransformer`."""
        block = self.transformer_blocks[0]
        tokens = self.proj_in(to_tokens(norm_maps((x,), self.norm)))
        return add_maps(x, to_map(self._tail(*block.attended(tokens, context), block.ff_norm), x))


class FusedPictureAttention(PictureAttention):
    """The decoder's attention: norm, one product for all three, one wide head, residual."""

    def prepare(self) -> None:
        """Lay weights and biases side by side."""
        _side_by_side(self, ("to_q", "to_k", "to_v"))
        self.fused_bias = torch.cat([layer.bias.data for layer in (self.to_q, self.to_k, self.to_v)])

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """``[B, C, h, w]``."""
        x, out = hidden_states, self.to_out[0]
        tokens = to_tokens(norm_maps((x,), self.group_norm))
        q, k, v = F.linear(tokens, self.fused_weight, self.fused_bias).chunk(3, -1)
        y = F.linear(picture_attention(q, k, v), out.weight)
        return add_maps(x, to_map(y, x), out.bias)


class FusedTinyBlock(AutoencoderTinyBlock):
    """Three convolutions of the tiny decoder: bias and ReLU in one, and the residual behind the last."""

    def prepare(self) -> None:
        """Make the biases what :func:`.map_kernels.scale_and_rectify` takes."""
        biases = [self.conv[i].bias.float() for i in (0, 2, 4)]
        self.tables = [torch.stack([torch.ones_like(bias), bias]) for bias in biases]

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]``."""
        h, rest = x, (None, None, self.skip(x))
        for i, table, residual in zip((0, 2, 4), self.tables, rest, strict=True):
            h = scale_and_rectify(self.conv[i]._conv_forward(h, self.conv[i].weight, None), table, residual)
        return h


class FusedDecoder(Decoder):
    """Its last norm and the SiLU behind it in one."""

    def prepare(self) -> None:
        """Let the norm do both."""
        self.conv_norm_out.__class__, self.conv_act.__class__ = NormWithSiLU, NoSiLU


class NormWithSiLU(nn.GroupNorm):
    """Group norm and SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]``."""
        return norm_maps((x,), self, silu=True)


class NoSiLU(nn.SiLU):
    """Where the norm has already done it."""

    def forward(self, x: Tensor) -> Tensor:
        """Whatever it is given."""
        return x


def use_fused(module: nn.Module) -> nn.Module:
    """Turn every block in a module that has a fused version into that, in place, with its weights.

    The weights must be where they are to be used: some are laid side by side for it, or multiplied.
    """
    for child in module.modules():
        kind = FUSED.get(type(child))
        if kind is None or (type(child) in FITS and not FITS[type(child)](child)):
            continue
        child.__class__ = kind
        if hasattr(kind, "prepare"):
            child.prepare()
    return module


def use_plain(module: nn.Module) -> nn.Module:
    """Undo :func:`use_fused`."""
    back = {fused: plain for plain, fused in FUSED.items()} | {NormWithSiLU: nn.GroupNorm, NoSiLU: nn.SiLU}
    for child in module.modules():
        child.__class__ = back.get(type(child), type(child))
        for name in ("fused_weight", "fused_bias", "fused_out", "tables"):
            child.__dict__.pop(name, None)
    return module


def _side_by_side(attention: nn.Module, names: tuple[str, ...]) -> None:
    """One weight for several projections; theirs become parts of it, so that none exists twice."""
    layers = [getattr(attention, name) for name in names]
    joined = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, joined.split([len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part
    attention.fused_weight = joined


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


def _of_ordinary(stage: UpStage) -> bool:
    return all(_ordinary(resnet) for resnet in stage.resnets)


def _nearest(layer: Upsample2D) -> bool:
    return (
        layer.use_conv
        and layer.interpolate
        and not layer.use_conv_transpose
        and layer.norm is None
        and layer.conv.kernel_size == (3, 3)
        and layer.conv.bias is not None
    )


def _convolved(layer: Downsample2D) -> bool:
    return layer.use_conv and layer.norm is None and layer.padding == 1 and layer.conv.bias is not None


def _one_wide_head(attention: PictureAttention) -> bool:
    return (
        attention.heads == 1
        and attention.group_norm is not None
        and attention.spatial_norm is None
        and attention.norm_q is None
        and attention.norm_k is None
        and attention.residual_connection
        and attention.rescale_output_factor == 1.0
        and attention.to_q.bias is not None
        and "dtype" in torch.ops.aten.mm.overloads()  # products that leave in float32, from PyTorch 2.8 on
    )


def _rectified(block: AutoencoderTinyBlock) -> bool:
    return all(isinstance(layer, nn.ReLU) for layer in (block.conv[1], block.conv[3], block.fuse))


def _plainly_normed(decoder: Decoder) -> bool:
    return isinstance(decoder.conv_norm_out, nn.GroupNorm) and isinstance(decoder.conv_act, nn.SiLU)


FUSED: dict[type[nn.Module], type[nn.Module]] = {
    ResnetBlock2D: FusedResnet,
    Upsample2D: FusedUpsample,
    Downsample2D: FusedDownsample,
    UpStage: FusedUpStage,
    TransformerBlock: FusedTransformerBlock,
    FrameTransformer: FusedFrameTransformer,
    SpatialBlock: FusedSpatialBlock,
    SpatialTransformer: FusedSpatialTransformer,
    PictureAttention: FusedPictureAttention,
    AutoencoderTinyBlock: FusedTinyBlock,
    Decoder: FusedDecoder,
}
FITS = {
    ResnetBlock2D: _ordinary,
    Upsample2D: _nearest,
    Downsample2D: _convolved,
    UpStage: _of_ordinary,
    PictureAttention: _one_wide_head,
    AutoencoderTinyBlock: _rectified,
    Decoder: _plainly_normed,
}
