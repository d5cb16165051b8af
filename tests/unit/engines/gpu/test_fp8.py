"""Blocks with float8 weights against the blocks that they are made from; needs a GPU that multiplies float8."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.gpu import row_kernels
from avatar.engines.gpu.fp8 import Fp8Linear, require_fp8
from avatar.engines.gpu.row_kernels import FLOAT8, LARGEST, Rows
from avatar.engines.liveavatar import fp8_blocks as fp8
from avatar.engines.liveavatar.attention import Attention
from avatar.engines.liveavatar.config import BLOCK_FRAMES, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.longcat.layers import CrossAttention
from torch import Tensor, nn

from benchmarks.liveavatar_models import random_transformer

CONFIG = S2VConfig(
    dim=512, ffn_dim=1024, num_heads=4, num_layers=4, text_dim=64, audio_dim=32, audio_inject_layers=(0, 2)
)


def relative(ours: Tensor, expected: Tensor) -> float:
    return float((ours.double() - expected.double()).norm() / expected.double().norm())


def test_weights_keep_their_rows_range():
    layer = nn.Linear(64, 96)
    made = Fp8Linear.from_linear(layer, layer)
    back = made.weight.float() * made.scale
    assert back.shape == (192, 64) and made.bias.shape == (192,)
    assert relative(back[:96], layer.weight) < 0.04
    assert torch.equal(back[96:], back[:96])
    assert (made.weight.float().abs().amax(1) == 448).all()


def test_a_cpu_is_refused_in_one_sentence():
    with pytest.raises(RuntimeError, match="fp8 needs an NVIDIA GPU"):
        require_fp8(torch.device("cpu"))


def test_blocks_are_brought_one_by_one_and_those_that_wait_lie_in_cpu_memory():
    model = random_transformer(CONFIG, torch.device("cpu"), torch.bfloat16)
    before, brought = list(model.blocks), []
    waiting = fp8.quantise_transformer(
        model, [1, 3], lambda index: brought.append(model.blocks[index] is before[index])
    )
    assert brought == [True] * 4
    assert [one.block for one in waiting] == [model.blocks[1], model.blocks[3]]
    for one in waiting:
        assert one.block.up.weight.data_ptr() in range(
            one.memory.bytes.data_ptr(), one.memory.bytes.data_ptr() + one.memory.bytes.nbytes
        )
    assert all(isinstance(block, fp8.Fp8Block) for block in model.blocks)
    assert all(isinstance(layer, fp8.Fp8Attention) for layer in model.audio_injector.injector)
    assert fp8.quantise_transformer(random_transformer(CONFIG, torch.device("cpu"), torch.bfloat16)) == []


def rollout(model: S2VTransformer, blocks: int = 5) -> Tensor:
    """Latents of some blocks, over a ring wrap and a new reference."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).cuda()

    generator = torch.Generator().manual_seed(1)
    sampler = BlockSampler(
        model,
        SamplingConfig(frames_per_clip=24),
        context=draw(5, CONFIG.text_dim),
        reference=draw(1, 16, 1, 16, 16),
        motion=draw(1, 16, 19, 16, 16),
    )
    features = [draw(1, CONFIG.audio_layers, CONFIG.audio_dim, BLOCK_FRAMES) for _ in range(blocks)]
    return torch.cat([sampler.next_block(x) for x in features], dim=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_rollout_in_fp8_stays_close():
    model = random_transformer(CONFIG, torch.device("cuda"), torch.bfloat16)
    expected = rollout(model)
    fp8.quantise_transformer(model)
    assert relative(rollout(model), expected) < 0.1


@pytest.fixture
def plain_kernels(monkeypatch):
    """PyTorch's functions in place of the kernels, so that shapes are tried on a CPU too."""

    def quantise(x: Tensor, gelu: bool = False) -> Rows:
        x = x.flatten(0, -2)
        scale = x.abs().amax(1, keepdim=True) / LARGEST
        return Rows((x / scale).to(FLOAT8), scale)

    def product(a, b, scale_a, scale_b, bias, out_dtype, use_fast_accum):
        return ((a.float() * scale_a) @ (b.float() * scale_b) + bias).to(out_dtype)

    def rms_norm(x, weight, eps, heads, rotation=None):
        width = weight.shape[1]
        normed = [
            F.rms_norm(part, (width,), w, eps) for part, w in zip(x.split(width, 1), weight, strict=False)
        ]
        return torch.stack(normed).unflatten(-1, (heads, -1))

    monkeypatch.setattr(row_kernels, "quantise", quantise)
    monkeypatch.setattr(row_kernels, "rms_norm", rms_norm)
    monkeypatch.setattr(torch, "_scaled_mm", product)


@torch.no_grad()
def test_frames_that_hear_for_themselves_keep_their_shape(plain_kernels):
    source = Attention(64, 2, 1e-6)
    made = fp8.Fp8Attention(source)
    x = torch.randn(3, 5, 64)
    for ours, expected in (
        (made.query(x), source.query(x)),
        *zip(made.key_value(x), source.key_value(x), strict=True),
    ):
        assert ours.shape == expected.shape == (3, 5, 2, 32)
        assert relative(ours, expected) < 0.08
    heads = torch.randn(3, 5, 2, 32)
    assert relative(made.output(heads), source.output(heads)) < 0.08


@torch.no_grad()
def test_speech_of_several_latents_keeps_its_shape(plain_kernels):
    source = CrossAttention(64, 2, 24)
    expected = source.key_value(torch.randn(4, 6, 24, generator=torch.Generator().manual_seed(0)))
    source.kv_linear = Fp8Linear.from_linear(source.kv_linear)
    found = source.key_value(torch.randn(4, 6, 24, generator=torch.Generator().manual_seed(0)))
    for ours, exact in zip(found, expected, strict=True):
        assert ours.shape == exact.shape == (4, 6, 2, 32)
        assert relative(ours, exact) < 0.08
