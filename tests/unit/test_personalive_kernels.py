"""The Triton kernels against PyTorch: on a GPU, or with Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from avatar.loaders.personalive import find_files, load_personalive
from avatar.personalive import fused, fused_kernels, group_norm, temporal_attention
from avatar.personalive.runtime import accelerate, plain
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from tools.tiny_personalive import write_tiny_personalive

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


def test_temporal_attention_reads_one_product_of_all_three(kernels):
    q, k, v = torch.randn(16, 5, 3 * 64, device=DEVICE).chunk(3, -1)
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


def test_group_norm_takes_an_addition_and_silu(kernels):
    x = (torch.randn(2, 64, 5, 7, device=DEVICE) + 2).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, 64, device=DEVICE)
    for add in (torch.randn(2, 64, device=DEVICE) * 3, torch.randn(64, device=DEVICE)):
        ours = group_norm.channels_last_group_norm(x, 32, weight, bias, 1e-5, add, silu=True)
        raised = x + add.expand(2, 64)[..., None, None]
        assert (ours - F.silu(F.group_norm(raised, 32, weight, bias, 1e-5))).abs().max() < 1e-4


@pytest.mark.parametrize("width", [64, 320])
def test_residual_norm_and_positions_in_one(kernels, width):
    x, y = torch.randn(2, 3, 7, width, device=DEVICE)
    weight, bias = torch.randn(2, width, device=DEVICE)
    table = torch.randn(5, width, device=DEVICE)
    total, normed = fused_kernels.add_norm(x, y, weight, bias, 1e-5, table)
    assert torch.equal(total, x + y)
    expected = F.layer_norm(x + y, (width,), weight, bias, 1e-5)
    assert (normed - expected - table[:3, None]).abs().max() < 1e-5
    total, normed = fused_kernels.add_norm(x, None, weight, bias, 1e-5)
    assert torch.equal(total, x)
    assert (normed - F.layer_norm(x, (width,), weight, bias, 1e-5)).abs().max() < 1e-5


def test_gate_and_residual(kernels):
    x = torch.randn(2, 5, 2 * 96, device=DEVICE)
    value, gate = x.chunk(2, -1)
    assert (fused_kernels.geglu(x) - value * F.gelu(gate)).abs().max() < 1e-5
    x, y = torch.randn(2, 2, 48, 3, 5, device=DEVICE)
    bias = torch.randn(48, device=DEVICE)
    ours = fused_kernels.add_maps(x, y, bias)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - x - y - bias[:, None, None]).abs().max() < 1e-6


def test_upsampling_by_small_convolutions_is_the_same():
    layer = Upsample2D(8, use_conv=True, out_channels=12).requires_grad_(False)
    x = torch.randn(2, 8, 5, 3)
    expected = layer(x)
    fused.use_fused(layer)
    assert type(layer) is fused.FusedUpsample
    assert (layer(x) - expected).abs().max() < 1e-5


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_tiny_personalive(tmp_path_factory.mktemp("fused"))
    loaded = load_personalive(find_files(str(folder), Path("unused"), tiny_vae=True), torch.float32)
    for network in (loaded.denoising_unet, loaded.codec.full.vae.decoder, loaded.codec.vae.decoder):
        network.to(DEVICE if torch.cuda.is_available() or INTERPRETED else "cpu")
    return loaded


def window(engine):
    unet = engine.denoising_unet
    device = unet.conv_in.weight.device
    generator = torch.Generator().manual_seed(3)

    def noise(*shape):
        return torch.randn(shape, generator=generator).to(device)

    contexts = [
        fused.BlockContext(noise(1, n, c), noise(1, n, c), noise(c))
        for block in unet.spatial_blocks().values()
        for n, c in [(9, block.norm1.weight.numel())]
    ]
    timesteps = torch.tensor([0, 333, 666, 999], device=device).repeat_interleave(4)
    return noise(16, 4, 16, 16), timesteps, noise(16, 32, 16), noise(16, 32, 16, 16), contexts


def test_the_fused_unet_is_the_same(kernels, engine):
    unet = engine.denoising_unet
    inputs = window(engine)
    with torch.inference_mode():
        expected = unet(*inputs)
        fused.use_fused(unet)
        ours = unet(*inputs)
        fused.use_plain(unet)
        assert torch.equal(unet(*inputs), expected)
    assert (ours - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_the_fused_decoder_is_the_same(kernels, engine, name):
    decoder = engine.codec.full.vae.decoder if name == "full" else engine.codec.vae.decoder
    latents = torch.randn(2, 4, 8, 8, device=next(decoder.parameters()).device)
    with torch.inference_mode():
        expected = decoder(latents)
        fused.use_fused(decoder)
        ours = decoder(latents)
        fused.use_plain(decoder)
    assert (ours - expected).norm() / expected.norm() < 1e-4


def test_everything_is_fused_that_can_be_and_put_back_with_its_weights(engine):
    unet = engine.denoising_unet
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    kinds = [type(module) for module in unet.modules()]
    fused.use_fused(unet)
    left = {ResnetBlock2D, Upsample2D, GEGLU, fused.TransformerBlock, fused.SpatialBlock}
    assert not left & {type(module) for module in unet.modules()}
    assert {key: value.shape for key, value in unet.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }
    fused.use_plain(unet)
    assert [type(module) for module in unet.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())


def test_every_block_of_the_decoder_is_fused(engine):
    decoder = engine.codec.full.vae.decoder
    kinds = [type(module) for module in decoder.modules()]
    fused.use_fused(decoder)
    fast = [type(module) for module in decoder.modules()]
    fused.use_plain(decoder)
    assert fast.count(fused.FusedResnet) == kinds.count(ResnetBlock2D) > 8
    assert fast.count(fused.FusedUpsample) == kinds.count(Upsample2D) == 3


def test_compiling_without_triton_is_refused_in_one_sentence(engine, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(type(engine), "device", torch.device("cuda"))
    with pytest.raises(RuntimeError, match="needs Triton, which is not installed"):
        accelerate(engine, "default")


def test_a_fast_engine_becomes_a_plain_one_again(engine):
    kinds = [type(module) for module in engine.denoising_unet.modules()]
    accelerate(engine, graphs=False)
    assert plain(engine).denoise is engine.denoising_unet
    assert [type(module) for module in engine.denoising_unet.modules()] == kinds
