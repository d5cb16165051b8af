"""Matrix products in float8: weights quantised per output row, activations per token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import row_kernels as kernels
from .generation import ADA, generation
from .row_kernels import FLOAT8, LARGEST, Rows
from .triton_support import available


def require_fp8(device: torch.device) -> None:
    """RuntimeError when ``device`` cannot multiply float8 matrices with what is installed."""
    if generation(device) < ADA:
        raise RuntimeError(
            f"fp8 needs an NVIDIA GPU of the Ada generation or newer, and this runs on {device}; choose bf16."
        )
    if not available(device):
        raise RuntimeError(
            "fp8 needs a working Triton; install triton (on Windows: triton-windows) and a C compiler, or choose bf16."
        )


class Fp8Linear(nn.Module):
    """A linear layer from rows, which it quantises if they are not yet, to the dtype of its bias.

    ``weight`` float8 [out, in], ``scale`` float32 [out, 1], ``bias`` [out].
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @classmethod
    def from_linear(cls, *layers: nn.Linear) -> Fp8Linear:
        """Quantise one layer, or several over the same input as one whose outputs lie side by side."""
        weight = torch.cat([layer.weight for layer in layers]).float()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
        biases = [
            layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
            for layer in layers
        ]
        bias = torch.cat(biases)
        return cls((weight / scale).clamp(-LARGEST, LARGEST).to(FLOAT8), scale, bias)

    def forward(self, x: Tensor | Rows) -> Tensor:
        """[..., in] -> [..., out]; rows -> [1, tokens, out]."""
        rows = x if isinstance(x, Rows) else kernels.quantise(x)
        product = torch._scaled_mm(
            rows.values,
            self.weight.t(),
            scale_a=rows.scale,
            scale_b=self.scale.t(),
            bias=self.bias,
            out_dtype=self.bias.dtype,
            use_fast_accum=True,
        )
        return product[None] if isinstance(x, Rows) else product.view(*x.shape[:-1], -1)
