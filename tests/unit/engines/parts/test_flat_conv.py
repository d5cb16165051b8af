"""The CPU's 3-D convolutions and norms give what torch's and diffusers' own give."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from avatar.engines.gpu.swap import replace_layers
from avatar.engines.parts.wan.vae_flat import flat_weight, runs_flat
from avatar.engines.parts.wan.vae_layers import LAYERS, CausalConv, Norm, lay_out_for_gpu
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import nn


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_those_of_torch(kernel, stride, dtype):
    padding = (1, kernel[1] // 2, kernel[2] // 2)
    layer = WanCausalConv3d(5, 7, kernel, stride, padding).to(dtype)
    x, past = torch.randn(2, 5, 6, 9, 8, dtype=dtype), torch.randn(2, 5, 2, 9, 8, dtype=dtype)
    expected = layer(x), layer(x, past)
    fast = replace_layers(layer, LAYERS)
    assert type(fast) is CausalConv
    torch.testing.assert_close((fast(x), fast(x, past)), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(x), expected[0])  # what is replaced stays as it was


def test_a_layer_that_sees_one_frame_is_left_to_torch():
    layer = WanCausalConv3d(3, 3, 1)
    x = torch.randn(1, 3, 4, 5, 5)
    assert torch.equal(replace_layers(layer, LAYERS)(x), layer(x))


def test_models_are_freed_at_once():
    layer = replace_layers(WanCausalConv3d(3, 3, 3), LAYERS)
    gone = weakref.ref(layer), weakref.ref(layer.source)
    gc.disable()
    try:
        del layer
        assert gone[0]() is None and gone[1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("images", "shape"), [(False, (2, 5, 3, 4, 4)), (True, (2, 5, 4, 4))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_those_of_diffusers(images, shape, dtype):
    layer = WanRMS_norm(5, images=images).requires_grad_(False).to(dtype)
    layer.gamma += torch.randn_like(layer.gamma)
    x = torch.randn(shape, dtype=dtype)
    x[:, :, ..., 0, 0] = 0
    expected = layer(x)
    fast = replace_layers(layer, LAYERS)
    assert type(fast) is Norm
    torch.testing.assert_close(fast(x), expected)


@pytest.mark.parametrize("channels", [96, 192, 384])
def test_weights_are_laid_out_once_in_the_order_that_they_are_read_in(channels):
    layer = nn.Conv3d(8, channels, 3)
    before = layer.weight.detach().clone()
    lay_out_for_gpu(layer)
    address = layer.weight.data_ptr()
    lay_out_for_gpu(layer)
    assert layer.weight.data_ptr() == address and torch.equal(layer.weight, before)
    flat = flat_weight(layer.weight)
    assert torch.equal(flat, before.transpose(1, 2).flatten(1, 2))
    assert flat.is_contiguous(memory_format=torch.channels_last)
    assert (flat.data_ptr() == address) == runs_flat(before)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last_3d) != runs_flat(before)
