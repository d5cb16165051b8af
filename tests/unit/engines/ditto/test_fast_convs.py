"""Convolutions of volumes in other forms: the numbers are those of the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.ditto.fast_convs import (
    WHOLE_CHANNELS,
    FlatConv,
    SliceConv,
    TapConv,
    by_pictures,
    missing,
    widened,
)
from torch import nn

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def volumes(channels, layout=torch.contiguous_format, depth=4):
    return torch.randn(2, channels, depth, 6, 5).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("outputs", [3, 8])
def test_a_convolution_by_pictures_is_that_of_volumes(layout, outputs):
    x, conv = volumes(6, layout), nn.Conv3d(6, outputs, 7, padding=3)
    sliced = SliceConv(conv)
    assert sliced.slices.out_channels % WHOLE_CHANNELS == 0
    assert torch.allclose(sliced(x), conv(x), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [3, 7])
def test_a_convolution_by_taps_is_that_of_all_depths(layout, side):
    x, conv = volumes(6, layout), FlatConv(6 * 4, 1, side, padding=side // 2)
    expected = F.conv2d(x.flatten(1, 2), conv.weight, conv.bias, padding=side // 2)
    assert torch.allclose(conv(x), expected, atol=1e-6)
    assert torch.allclose(TapConv(conv, 4)(x), expected, atol=1e-5)


def test_channels_of_zeros_change_nothing():
    x, conv = volumes(6), nn.Conv3d(6, 5, 3, padding=1)
    wider = widened(conv, missing(6), missing(5))
    assert (wider.in_channels, wider.out_channels) == (8, 8)
    found = wider(torch.cat([x, torch.randn(2, 2, 4, 6, 5)], 1))
    assert torch.allclose(found[:, :5], conv(x), atol=1e-6)
    assert not found[:, 5:].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pools_and_enlargements_keep_the_layout_and_the_bits(layout):
    x = volumes(8, layout)[..., :4]
    pooled = by_pictures(lambda x: F.avg_pool2d(x, 2), x)
    assert torch.equal(pooled, F.avg_pool3d(x, (1, 2, 2)))
    larger = by_pictures(lambda x: F.interpolate(x, scale_factor=2), volumes(8, layout))
    assert larger.is_contiguous(memory_format=torch.channels_last_3d) == (layout == torch.channels_last_3d)
