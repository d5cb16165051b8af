"""The Triton kernels against PyTorch: on a GPU, or with Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.gpu import exact_linear, map_kernels
from avatar.engines.gpu.swap import put_back, replace_layers
from avatar.engines.parts.face.motion_extractor import ResponseNorm
from avatar.engines.personalive import runtime
from avatar.engines.personalive.fast import (
    convolutions,
    group_norm,
    picture_attention,
    temporal_attention,
    token_attention,
)
from avatar.engines.personalive.fast import (
    kernels as fused_kernels,
)
from avatar.engines.personalive.fast.table import DRAWING, NORMS, READING
from avatar.engines.personalive.layers import Attention
from avatar.engines.personalive.modules import BlockContext
from avatar.engines.personalive.motion_encoder import ConvBlock
from avatar.loaders.personalive.files import find_files
from avatar.loaders.personalive.networks import load_personalive
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from tools.tiny_personalive import write_tiny_personalive

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.fixture
def large_tiles(monkeypatch):
    """Few programs: the interpreter runs them one by one. A GPU keeps its own tiles, larger ones do not fit there."""
    if not INTERPRETED:
        return
    for module in (fused_kernels, map_kernels):
        monkeypatch.setattr(module, "TILE", 2**15)
    monkeypatch.setattr(map_kernels, "APPLY_ROWS", 512)
    monkeypatch.setattr(map_kernels, "GROUPS", 32)
    monkeypatch.setattr(token_attention, "ROWS", 1024)


@pytest.fixture
def kernels():
    if map_kernels.triton is None:
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


def maps(*shape):
    return (torch.randn(shape, device=DEVICE) * 3 + 1).to(memory_format=torch.channels_last)


def random_norm(channels, groups=32):
    norm = torch.nn.GroupNorm(groups, channels, device=DEVICE).requires_grad_(False)
    norm.weight.normal_(), norm.bias.normal_()
    return norm


SHAPES = [(2, 320, 8, 8), (1, 64, 5, 7), (2, 960, 3, 3), (1, 32, 40, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_group_norm_of_maps(kernels, shape):
    x, norm = maps(*shape), random_norm(shape[1])
    ours = map_kernels.norm_maps((x,), norm)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - norm(x)).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_additions_leave_the_sums_that_a_norm_needs(kernels, shape, monkeypatch):
    x, y, norm = maps(*shape), maps(*shape), random_norm(shape[1])
    bias = torch.randn(shape[1], device=DEVICE)
    ours = map_kernels.add_maps(x, y, bias)
    expected = x + y + bias[:, None, None]
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours - expected).abs().max() < 1e-5
    assert torch.equal(map_kernels.add_maps(x, None, bias), x + bias[:, None, None])
    sums = ours.channel_sums.sum(1)
    assert torch.allclose(sums[:, 0], expected.sum((2, 3)), rtol=1e-5, atol=1e-3)
    assert torch.allclose(sums[:, 1], expected.square().sum((2, 3)), rtol=1e-5, atol=1e-3)
    monkeypatch.setattr(map_kernels, "_add_and_sum", None)  # they are not added up again
    assert (map_kernels.norm_maps((ours,), norm) - norm(expected)).abs().max() < 1e-4


@pytest.mark.parametrize("summed", [True, False])
def test_group_norm_of_two_maps_side_by_side(kernels, summed):
    x, skip, norm = maps(2, 64, 5, 3), maps(2, 128, 5, 3), random_norm(192, 16)  # a group across the seam
    if summed:
        x = map_kernels.add_maps(x)
    expected = F.silu(norm(torch.cat([x, skip], 1)))
    assert (map_kernels.norm_maps((x, skip), norm, silu=True) - expected).abs().max() < 1e-4


def test_many_parts_are_added_up(kernels, monkeypatch):
    monkeypatch.setattr(map_kernels, "TILE", 256)
    monkeypatch.setattr(map_kernels, "PARTS", 4)
    x, norm = maps(1, 64, 13, 7), random_norm(64)
    assert map_kernels.add_maps(x).channel_sums.shape[1] == 23
    assert (map_kernels.norm_maps((x,), norm) - norm(x)).abs().max() < 1e-4
    monkeypatch.setattr(map_kernels, "PROGRAMS", 6)  # several tiles for each
    assert map_kernels.add_maps(x).channel_sums.shape[1] == 6
    assert (map_kernels.norm_maps((x,), norm) - norm(x)).abs().max() < 1e-4


def test_group_norm_takes_an_addition_and_silu(kernels):
    x, norm = maps(2, 64, 5, 7), random_norm(64)
    each, for_all = torch.randn(2, 64, device=DEVICE) * 3, torch.randn(64, device=DEVICE)
    for add in (
        map_kernels.Raise(each),
        map_kernels.Raise(None, for_all),
        map_kernels.Raise(each, for_all),
    ):
        raised = x + sum(part.expand(2, 64) for part in add if part is not None)[..., None, None]
        ours = map_kernels.norm_maps((x,), norm, add, silu=True)
        assert (ours - F.silu(norm(raised))).abs().max() < 1e-4


def test_four_pixels_become_a_large_map_with_sums(kernels):
    pixels, bias = maps(2, 4 * 48, 4, 6), torch.randn(48, device=DEVICE)
    ours = map_kernels.spread_pixels(pixels, bias)
    for i in range(2):
        for j in range(2):
            part = pixels[:, 48 * (2 * i + j) : 48 * (2 * i + j + 1), i : i + 3, j : j + 5]
            assert (ours[:, :, i::2, j::2] - part - bias[:, None, None]).abs().max() < 1e-6
    assert torch.allclose(ours.channel_sums.sum(1)[:, 0], ours.sum((2, 3)), atol=1e-3)


def test_compiled_group_norm_is_the_same(monkeypatch):
    monkeypatch.setattr(group_norm, "available", lambda device: True)
    x = torch.randn(2, 64, 6, 5).to(memory_format=torch.channels_last)
    norm = torch.nn.GroupNorm(32, 64).requires_grad_(False)
    norm.weight.normal_(), norm.bias.normal_()
    expected = norm(x)
    compiled = torch.compile(replace_layers(norm, NORMS), backend="eager", fullgraph=True)
    with torch.no_grad():
        assert (compiled(x) - expected).abs().max() < 1e-5


def test_norms_are_replaced_and_restored():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 1), torch.nn.GroupNorm(8, 32))
    x = torch.randn(1, 3, 4, 4)
    expected = net(x)
    replace_layers(net, NORMS)
    assert type(net[1]) is group_norm.ChannelsLastGroupNorm
    assert torch.equal(net(x), expected)
    assert type(put_back(net)[1]) is torch.nn.GroupNorm


@pytest.mark.parametrize("width", [64, 320])
def test_residual_norm_and_positions_in_one(kernels, width):
    x, y = torch.randn(2, 3, 7, width, device=DEVICE)
    norm = torch.nn.LayerNorm(width, device=DEVICE).requires_grad_(False)
    norm.weight.normal_(), norm.bias.normal_()
    table = torch.randn(5, width, device=DEVICE)
    room = torch.zeros(3, 7, 2 * width, device=DEVICE)
    total, normed = fused_kernels.add_norm(x, y, norm, table, room[..., width:])
    assert torch.equal(total, x + y)
    assert torch.equal(room, torch.cat([torch.zeros_like(x), x + y], -1))
    assert (normed - norm(x + y) - table[:3, None]).abs().max() < 1e-5
    total, normed = fused_kernels.add_norm(x, None, norm)
    assert torch.equal(total, x)
    assert (normed - norm(x)).abs().max() < 1e-5


def test_gate(kernels):
    x = torch.randn(2, 5, 2 * 96, device=DEVICE)
    value, gate = x.chunk(2, -1)
    expected = value * F.gelu(gate)
    assert (fused_kernels.geglu(x) - expected).abs().max() < 1e-5
    room = torch.zeros(2, 5, 100, device=DEVICE)
    fused_kernels.geglu(x, room[..., :96])
    assert (room - F.pad(expected, (0, 4))).abs().max() < 1e-5


@pytest.mark.parametrize(("places", "extra"), [(5, 5), (40, 7), (3, 50)])
def test_own_and_reference_keys_in_one_room(kernels, places, extra):
    own = torch.randn(2, places, 3 * 48, device=DEVICE)
    keys, values = torch.randn(2, 1, extra, 48, device=DEVICE)
    k, v = fused_kernels.join_reference(own, keys, values)
    _, own_keys, own_values = own.chunk(3, -1)
    assert torch.equal(k, torch.cat([own_keys, keys.expand(2, -1, -1)], 1))
    assert torch.equal(v, torch.cat([own_values, values.expand(2, -1, -1)], 1))


@pytest.mark.parametrize(("tokens", "width", "dim"), [(32, 16, 320), (12, 8, 64)])
def test_attention_in_the_tokens_own_width(kernels, tokens, width, dim):
    attention = Attention(dim, 8, width).to(DEVICE).requires_grad_(False)
    x, motion = torch.randn(3, 21, dim, device=DEVICE), torch.randn(3, tokens, width, device=DEVICE) * 3
    ask, answer = token_attention.narrow_weights(attention)
    asked = F.linear(x, ask)
    mean = token_attention.token_attention(asked, motion)
    assert (mean - token_attention.plain(asked, motion)).abs().max() < 1e-5
    expected = attention(x, motion)
    assert (F.linear(mean, answer, attention.to_out[0].bias) - expected).abs().max() < 1e-5


def test_attention_with_one_wide_head(kernels, monkeypatch):
    q, k, v = torch.randn(3, 2, 11, 48, device=DEVICE)
    expected = F.scaled_dot_product_attention(q, k, v)
    assert (picture_attention.picture_attention(q, k, v) - expected).abs().max() < 1e-5
    monkeypatch.setattr(picture_attention, "MOST_SCORES", 4 * 11)  # four rows at a time
    assert (picture_attention.picture_attention(q, k, v) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("places", "inner", "outer"), [(9, 96, 40), (70, 40, 96)])
def test_exact_products(kernels, places, inner, outer):
    layer = torch.nn.Linear(inner, outer, device=DEVICE).requires_grad_(False)
    x, residual = torch.randn(2, places, inner, device=DEVICE), torch.randn(2, places, outer, device=DEVICE)
    factor, offset = torch.randn(2, inner, device=DEVICE), torch.randn(inner, device=DEVICE)
    ours = exact_linear.exact_linear(x, layer, factor, offset, residual)
    expected = layer.double()(x.double() * factor[:, None] + offset) + residual
    assert (ours - expected).norm() / expected.norm() < 1e-6
    ours = exact_linear.exact_linear(x, layer.float(), gelu=True)
    expected = F.gelu(layer.double()(x.double()))
    assert (ours - expected).norm() / expected.norm() < 1e-6


def test_frozen_batch_norm_and_relu(kernels):
    block = ConvBlock(32, 64).to(DEVICE).requires_grad_(False).eval()
    for norm in (m for m in block.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        (
            norm.running_mean.normal_(),
            norm.running_var.uniform_(0.5, 2),
            norm.weight.normal_(),
            norm.bias.normal_(),
        )
    x = maps(2, 32, 5, 7)
    expected = block(x)
    block = replace_layers(block, READING)
    assert (block(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "size"), [("motion_extractor", 64), ("motion_encoder", 224)])
def test_networks_that_read_are_the_same_and_come_back(kernels, large_tiles, engine, name, size):
    network = getattr(engine, name).to(DEVICE)
    for norm in (m for m in network.modules() if isinstance(m, ResponseNorm)):
        norm.gamma.data.normal_(), norm.beta.data.normal_()
    images = torch.rand(2, 3, size, size, device=DEVICE)
    kinds = [type(module) for module in network.modules()]
    with torch.inference_mode():
        expected = network(images)
        replace_layers(network, READING)
        assert not set(READING) & {type(module) for module in network.modules()}
        ours = network(images)
        put_back(network)
    assert [type(module) for module in network.modules()] == kinds
    for one, other in zip(ours, expected, strict=True):
        assert (one - other).norm() / other.norm() < 1e-4


def test_upsampling_by_small_convolutions_is_the_same(kernels, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    layer = Upsample2D(8, use_conv=True, out_channels=12).to(DEVICE).requires_grad_(False)
    x = torch.randn(2, 8, 5, 3, device=DEVICE)
    expected = layer(x)
    layer = replace_layers(layer, DRAWING)
    assert type(layer) is convolutions.FusedUpsample
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
        BlockContext(noise(1, n, c), noise(1, n, c), noise(c))
        for block in unet.spatial_blocks().values()
        for n, c in [(9, block.norm1.weight.numel())]
    ]
    timesteps = torch.tensor([0, 333, 666, 999], device=device)
    return noise(4, 4, 8, 8), timesteps, noise(4, 32, 16), noise(4, 32, 8, 8), contexts


def test_the_fused_unet_is_the_same(kernels, large_tiles, engine):
    unet = engine.denoising_unet
    inputs = window(engine)
    with torch.inference_mode():
        expected = unet(*inputs)
        replace_layers(unet, DRAWING)
        ours = unet(*inputs)
        put_back(unet)
        assert torch.equal(unet(*inputs), expected)
    assert (ours - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("name", ["full", "tiny"])
def test_the_fused_decoder_is_the_same(kernels, large_tiles, engine, name):
    decoder = engine.codec.full.vae.decoder if name == "full" else engine.codec.vae.decoder
    latents = torch.randn(2, 4, 8, 8, device=next(decoder.parameters()).device)
    with torch.inference_mode():
        expected = decoder(latents)
        fast = replace_layers(decoder, DRAWING)
        ours = fast(latents)
        assert put_back(fast) is decoder
        assert torch.equal(decoder(latents), expected)
    assert (ours - expected).norm() / expected.norm() < 1e-4


def test_everything_is_fused_that_can_be_and_put_back_with_its_weights(engine):
    unet = engine.denoising_unet
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    kinds = [type(module) for module in unet.modules()]
    replace_layers(unet, DRAWING)
    left = set(DRAWING)
    assert not left & {type(module) for module in unet.modules()}
    assert {key: value.shape for key, value in unet.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }
    put_back(unet)
    assert [type(module) for module in unet.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())


def test_every_block_of_the_decoder_is_fused(engine):
    decoder = engine.codec.full.vae.decoder
    kinds = [type(module) for module in decoder.modules()]
    decoder = replace_layers(decoder, DRAWING)
    fast = [type(module) for module in decoder.modules()]
    decoder = put_back(decoder)
    assert [type(module) for module in decoder.modules()] == kinds
    # PyTorch has the products for the fused attention from 2.8 on.
    attention = {kind for kind, other in DRAWING.items() if other is picture_attention.FusedPictureAttention}
    older = "dtype" not in torch.ops.aten.mm.overloads()
    assert set(fast) & set(DRAWING) == (attention if older else set())
    assert fast.count(convolutions.FusedResnet) == kinds.count(ResnetBlock2D) > 8
    assert fast.count(convolutions.FusedUpsample) == kinds.count(Upsample2D) == 3


@pytest.mark.parametrize("decoder", ["full", "tiny"])
def test_a_fast_engine_becomes_a_plain_one_again(engine, monkeypatch, decoder):
    monkeypatch.setattr(runtime, "available", lambda device: True)
    monkeypatch.setattr(engine, "codec", engine.codec.full if decoder == "full" else engine.codec)

    def layers():
        networks = (
            engine.denoising_unet,
            engine.codec.network,
            engine.motion_encoder,
            engine.motion_extractor,
        )
        return [list(network.modules()) for network in networks]

    before = layers()
    runtime.accelerate(engine, graphs=False)
    assert all(fast != plain for fast, plain in zip(layers(), before, strict=True))
    assert runtime.plain(engine).denoise is engine.denoising_unet
    assert layers() == before


def test_without_a_working_triton_nothing_is_changed(engine, monkeypatch):
    monkeypatch.setattr(runtime, "available", lambda device: False)
    kinds = [type(module) for module in engine.denoising_unet.modules()]
    runtime.accelerate(engine, graphs=False)
    assert [type(module) for module in engine.denoising_unet.modules()] == kinds
