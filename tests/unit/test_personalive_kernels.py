"""The Triton kernels against PyTorch: on a GPU, or with Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from avatar.personalive import group_norm, temporal_attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.fixture
def kernels():
    if group_norm.triton is None:
        pytest.skip("Triton is not installed")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("Triton kernels need a GPU or TRITON_INTERPRET=1")


@pytest.mark.parametrize(
    ("frames", "places", "channels"), [(16, 9, 320), (16, 3, 1280), (12, 7, 64), (8, 4, 80)]
)
def test_tiled_temporal_attention(kernels, frames, places, channels):
    q, k, v = (torch.randn(frames, places, channels, device=DEVICE) for _ in range(3))
    expected = temporal_attention.plain(q, k, v, 8)
    assert (temporal_attention.tiled(q, k, v, 8) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(2, 320, 8, 8), (1, 64, 5, 7), (2, 960, 3, 3), (1, 32, 40, 9)])
def test_channels_last_group_norm(kernels, shape):
    x = (torch.randn(shape, device=DEVICE) * 3 + 1).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], device=DEVICE)
    ours = group_norm.channels_last_group_norm(x, 32, weight, bias, 1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - F.group_norm(x, 32, weight, bias, 1e-5)).abs().max() < 1e-4


def test_compiled_group_norm_is_the_same():
    x = torch.randn(2, 64, 6, 5).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, 64)
    norm = torch.compile(group_norm.channels_last_group_norm, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert (norm(x, 32, weight, bias, 1e-5) - F.group_norm(x, 32, weight, bias, 1e-5)).abs().max() < 1e-5


def test_norms_are_replaced_and_restored():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 1), torch.nn.GroupNorm(8, 32))
    x = torch.randn(1, 3, 4, 4)
    expected = net(x)
    group_norm.use_channels_last_norms(net)
    assert type(net[1]) is group_norm.ChannelsLastGroupNorm
    assert torch.equal(net(x), expected)
    assert type(group_norm.use_plain_norms(net)[1]) is torch.nn.GroupNorm
