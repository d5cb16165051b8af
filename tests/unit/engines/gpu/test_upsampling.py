"""Four sets of pixels from the small map are what a 3x3 convolution makes of the large one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from avatar.engines.gpu.upsampling import small_weight


def test_four_sets_of_pixels_are_the_large_map():
    weight, x = torch.randn(5, 4, 3, 3), torch.randn(2, 4, 6, 3)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    small = small_weight(weight)
    assert small.is_contiguous(memory_format=torch.channels_last)
    sets = F.conv2d(x, small, padding=1).unflatten(1, (2, 2, 5))
    for i in range(2):
        for j in range(2):
            part = sets[:, i, j, :, i : i + 6, j : j + 3]
            torch.testing.assert_close(part, expected[:, :, i::2, j::2], rtol=1e-4, atol=1e-4)
