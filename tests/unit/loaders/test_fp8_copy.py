"""Layers that the float8 copy keeps unquantised can be computed with, whatever the host stores them in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.parts.precision import run
from avatar.loaders.liveavatar.fp8_copy import _take_over

CPU = torch.device("cpu")


class Casting(nn.Linear):
    """A host's layer, which casts what it stores to the format of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


@pytest.mark.parametrize(
    ("weight", "bias", "kept"),
    [
        (torch.float16, torch.float32, torch.bfloat16),  # as GGUF files have it
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32, torch.float32),
    ],
)
def test_a_layers_bias_has_its_weights_format(weight, bias, kept):
    torch.manual_seed(0)
    theirs = nn.Sequential(Casting(8, 4))
    theirs[0].weight.data, theirs[0].bias.data = theirs[0].weight.to(weight), theirs[0].bias.to(bias)
    with torch.device("meta"):
        copy = nn.Sequential(nn.Linear(8, 4))
    with torch.no_grad():
        _take_over(copy, theirs, CPU, torch.bfloat16)
        x = torch.randn(3, 8)
        found = run(copy[0], x, torch.bfloat16)
    assert (copy[0].weight.dtype, copy[0].bias.dtype) == (kept, kept)
    torch.testing.assert_close(found.float(), theirs(x), atol=0.02, rtol=0.02)
