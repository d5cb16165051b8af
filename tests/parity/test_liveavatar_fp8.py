"""Float8 products: ours, scaled per row, are about as exact as the reference's, scaled per tensor."""

from __future__ import annotations

import torch
from avatar.engines.gpu.fp8 import Fp8Linear
from avatar.engines.gpu.row_kernels import FLOAT8, LARGEST
from torch import Tensor, nn

from .reference import tensors


def test_rows_are_as_exact_as_whole_tensors():
    t = tensors("liveavatar", "fp8.safetensors")
    x, weight, bias = t["input"], t["weight"], t["bias"]
    exact = x @ weight.T + bias
    layer = nn.Linear(*weight.T.shape)
    layer.load_state_dict({"weight": weight, "bias": bias})
    with torch.no_grad():
        quantised = Fp8Linear.from_linear(layer)
    scale = x.abs().amax(1, keepdim=True) / LARGEST
    rows = (x / scale).to(FLOAT8).float() * scale
    ours = rows @ (quantised.weight.float() * quantised.scale).T + bias

    def error(out: Tensor) -> float:
        return float((out - exact).norm())

    assert error(ours) < 1.25 * error(t["output"])
    assert error(ours) < 0.05 * float(exact.norm())
