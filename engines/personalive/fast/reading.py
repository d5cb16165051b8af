"""Blocks of the networks that read portraits and driving frames, in fewer and larger kernels, for CUDA with Triton."""

from __future__ import annotations

import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from ...gpu.exact_linear import exact_linear
from ...gpu.map_kernels import scale_and_rectify
from ...gpu.swap import StandIn
from ...parts.face.motion_extractor import Block
from ..layers import to_map, to_tokens
from ..motion_encoder import ConvBlock
from .kernels import geglu


class FusedConvBlock(StandIn, ConvBlock):
    """A block of the motion encoder that computes batch norm and ReLU in one pass."""

    def prepare(self) -> None:
        """Make the frozen norms factors and offsets."""
        norms = [self.bn1, self.bn2, self.bn3]
        if self.downsample is not None:
            norms.append(self.downsample[0])
        self.tables = [_table(norm) for norm in norms]

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, h, w] to [B, C', h, w]."""
        first = self.conv1(scale_and_rectify(x, self.tables[0]))
        second = self.conv2(scale_and_rectify(first, self.tables[1]))
        third = self.conv3(scale_and_rectify(second, self.tables[2]))
        if self.downsample is not None:
            x = self.downsample[2](scale_and_rectify(x, self.tables[3]))
        return torch.cat((first, second, third), 1) + x


class FusedGEGLU(StandIn, GEGLU):
    """GEGLU, which computes its gate in one pass."""

    def forward(self, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """Tokens [..., C] to [..., C']."""
        return geglu(self.proj(hidden_states))


class FusedExtractorBlock(StandIn, Block):
    """A block whose products take in the GELU and the residual behind them, and the response norm before them."""

    def forward(self, x: Tensor) -> Tensor:
        """See `motion_extractor.Block`."""
        x = x.contiguous(memory_format=torch.channels_last)
        tokens = self.norm(to_tokens(self.dwconv(x)))
        wide = exact_linear(tokens, self.pwconv1, gelu=True)
        energy = torch.linalg.vector_norm(wide, dim=1)
        factor = self.grn.gamma.flatten() * (energy / (energy.mean(-1, keepdim=True) + 1e-6)) + 1
        out = exact_linear(wide, self.pwconv2, factor, self.grn.beta.flatten(), to_tokens(x))
        return to_map(out, x)


def _table(norm: nn.BatchNorm2d) -> Tensor:
    scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
    return torch.stack([scale, norm.bias.float() - norm.running_mean.float() * scale])
