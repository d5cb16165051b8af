"""Random GGUF files of full size are quantised by a GPU, as the package ``gguf`` does it on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tools.tiny_gguf import quantise_q8_0

gguf = pytest.importorskip("gguf")


def test_q8_0_is_the_packages_own_bit_for_bit():
    matrix = torch.randn(24, 96, generator=torch.Generator().manual_seed(0))
    matrix[0, :32] = 0
    matrix[1, :32] = torch.arange(32) / 2 - 8  # halves, which are rounded away from zero
    matrix[1, 0] = 127
    expected = gguf.quantize(matrix.numpy(), gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(quantise_q8_0(matrix), expected)
