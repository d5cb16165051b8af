"""LongCat's blocks with float8 products."""

from __future__ import annotations

import torch

from ..gpu.fp8 import Fp8Linear
from .transformer import Block

LAYERS = {
    "attn": ("qkv", "proj"),
    "cross_attn": ("q_linear", "kv_linear", "proj"),
    "audio_cross_attn": ("q_linear", "kv_linear", "proj"),
    "ffn": ("w1", "w2", "w3"),
}
"""What is multiplied in float8: all that sees every token. Modulation stays as it is, since it works in float32."""


@torch.no_grad()
def use_fp8(block: Block) -> None:
    """Replace the layers of a block, which must hold ordinary weights, by float8 ones, where the block is."""
    for part, names in LAYERS.items():
        module = block.get_submodule(part)
        for name in names:
            setattr(module, name, Fp8Linear.from_linear(getattr(module, name)))
    block.float8 = True
