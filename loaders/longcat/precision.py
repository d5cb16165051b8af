"""In which number formats LongCat computes."""

from __future__ import annotations

from enum import Enum

import torch

from ...engines.gpu.fp8 import require_fp8
from ...engines.parts.attention import eight_bit


class Precision(str, Enum):
    """By the names that people choose."""

    BF16 = "bf16"
    FP8 = "fp8"
    """Products in float8, all else in bfloat16."""
    FAST = "fast"
    """As FP8, and attention in 8 bits."""
    FP32 = "fp32"

    @property
    def dtype(self) -> torch.dtype:
        """Of the hidden states."""
        return torch.float32 if self is Precision.FP32 else torch.bfloat16

    @property
    def float8(self) -> bool:
        """Whether weights become float8."""
        return self in (Precision.FP8, Precision.FAST)

    @property
    def attention8(self) -> bool:
        """Whether latents attend to each other in 8 bits."""
        return self is Precision.FAST

    def require(self, device: torch.device, head_dim: int) -> None:
        """RuntimeError when ``device`` cannot compute so with what is installed."""
        if self.float8:
            require_fp8(device)
        if self.attention8 and not eight_bit.available(device, head_dim):
            raise RuntimeError(
                f"Choose fp8: attention in 8 bits does not work on {device} with heads of {head_dim}."
            )
