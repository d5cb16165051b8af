"""SPADE decoder: paints a frame from the feature map of the warping network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fast_convs import UpsampledConv
from .layers import SpectralConv, set_weights

MIDDLE_BLOCKS = 6
SLOPE = 0.2  # of the leaky ReLU


@dataclass(frozen=True)
class DecoderConfig:
    """Widths of the decoder. Its picture is eight times as high and wide as its feature map."""

    inputs: int = 256
    middle: int = 512
    last: int = 64
    hidden: int = 128


class Spade(nn.Module):
    """Instance norm whose scale and shift are painted from the feature map."""

    def __init__(self, channels: int, inputs: int, hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """``[B, C, H, W]``, with a feature map ``[B, c, h, w]`` whose size divides it."""
        hidden = self.mlp_shared(F.interpolate(feature, size=x.shape[-2:]))
        return F.instance_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SpadeBlock(nn.Module):
    """Two convolutions with SPADE norms in front of them, and a shortcut, at ``scale`` times the feature map's size."""

    def __init__(self, inputs: int, outputs: int, config: DecoderConfig, scale: int = 1):
        super().__init__()
        self.scale = scale
        middle = min(inputs, outputs)
        self.conv_0, self.conv_1 = SpectralConv(inputs, middle, 3), SpectralConv(middle, outputs, 3)
        self.norm_0 = Spade(inputs, config.inputs, config.hidden)
        self.norm_1 = Spade(middle, config.inputs, config.hidden)
        self.conv_s = self.norm_s = None
        if inputs != outputs:
            self.conv_s = SpectralConv(inputs, outputs, 1, bias=False)
            self.norm_s = Spade(inputs, config.inputs, config.hidden)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """``[B, C, H, W]``, brought to the block's size, as ``[B, N, scale * h, scale * w]``; the feature map is
        ``[B, c, h, w]``."""
        x = enlarge(x, feature, self.scale)
        h = self.conv_0(F.leaky_relu(self.norm_0(x, feature), SLOPE))
        h = self.conv_1(F.leaky_relu(self.norm_1(h, feature), SLOPE))
        return h + (x if self.conv_s is None else self.conv_s(self.norm_s(x, feature)))

    def folded(self) -> nn.Module:
        """A block that computes the same from fewer and larger convolutions."""
        return FoldedSpadeBlock(self)


def enlarge(x: Tensor, feature: Tensor, scale: int) -> Tensor:
    """A map by nearest neighbours at ``scale`` times the size of the feature map."""
    size = [scale * side for side in feature.shape[-2:]]
    return x if list(x.shape[-2:]) == size else F.interpolate(x, size=size)


class FoldedSpadeBlock(nn.Module):
    """A `SpadeBlock` for inference, with what its norms have in common computed once.

    The first convolutions of the norms all read the feature map, so they are one, and are computed at its size (see
    `UpsampledConv`). Scale and shift are one convolution each. The input is normed once, before it is enlarged, which
    changes no mean and no variance.
    """

    def __init__(self, block: SpadeBlock):
        super().__init__()
        self.scale = block.scale
        self.conv_0, self.conv_1, self.conv_s = block.conv_0, block.conv_1, block.conv_s
        norms = [norm for norm in (block.norm_0, block.norm_1, block.norm_s) if norm is not None]
        self.shared = UpsampledConv([norm.mlp_shared[0] for norm in norms], block.scale)
        self.tables = nn.ModuleList(_scale_and_shift(norm) for norm in norms)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """See `SpadeBlock.forward`."""
        hidden = self.shared(feature).chunk(len(self.tables), 1)
        normed = enlarge(instance_norm(x), feature, self.scale)
        h = self.conv_0(F.leaky_relu(self._modulate(0, normed, hidden), SLOPE, inplace=True))
        h = self.conv_1(F.leaky_relu(self._modulate(1, instance_norm(h), hidden), SLOPE, inplace=True))
        return h + (x if self.conv_s is None else self.conv_s(self._modulate(2, normed, hidden)))

    def _modulate(self, norm: int, normed: Tensor, hidden: tuple[Tensor, ...]) -> Tensor:
        scale, shift = self.tables[norm](hidden[norm]).chunk(2, 1)
        return torch.addcmul(shift, normed, scale)


def _scale_and_shift(norm: Spade) -> nn.Conv2d:
    """One convolution whose outputs are 1 + gamma and beta."""
    gamma, beta = norm.mlp_gamma, norm.mlp_beta
    both = nn.Conv2d(gamma.in_channels, 2 * gamma.out_channels, 3, padding=1, device="meta")
    bias = torch.cat([gamma.bias.float() + 1, beta.bias.float()])
    return set_weights(both, torch.cat([gamma.weight, beta.weight]), bias, gamma.weight.dtype)


def instance_norm(x: Tensor) -> Tensor:
    """Every channel of ``[B, C, h, w]`` with mean 0 and variance 1, in the memory layout that it has."""
    variance, mean = torch.var_mean(x.float(), (2, 3), correction=0, keepdim=True)
    scale = (variance + 1e-5).rsqrt()
    # Rounded once, where it is written.
    return torch.addcmul(-mean * scale, x, scale, out=torch.empty_like(x))


class SpadeDecoder(nn.Module):
    """LivePortrait's SPADE decoder; the checkpoint's ``decoder.pth``."""

    def __init__(self, config: DecoderConfig | None = None):
        super().__init__()
        self.config = config = config or DecoderConfig()
        self.fc = nn.Conv2d(config.inputs, config.middle, 3, padding=1)
        for i in range(MIDDLE_BLOCKS):
            self.add_module(f"G_middle_{i}", SpadeBlock(config.middle, config.middle, config))
        self.up_0 = SpadeBlock(config.middle, config.inputs, config, scale=2)
        self.up_1 = SpadeBlock(config.inputs, config.last, config, scale=4)
        self.conv_img = nn.Sequential(nn.Conv2d(config.last, 12, 3, padding=1), nn.PixelShuffle(2))
        self.eval()

    def forward(self, feature: Tensor) -> Tensor:
        """Feature maps ``[B, C, h, w]`` as RGB pictures ``[B, 3, 8 h, 8 w]`` in [0, 1]."""
        x = self.fc(feature)
        for i in range(MIDDLE_BLOCKS):
            x = self.get_submodule(f"G_middle_{i}")(x, feature)
        x = self.up_1(self.up_0(x, feature), feature)
        return self.conv_img(F.leaky_relu(x, SLOPE)).sigmoid()
