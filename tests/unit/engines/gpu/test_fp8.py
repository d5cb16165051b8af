"""Blocks with float8 weights against the blocks that they are made from; needs a GPU that multiplies float8."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.fp8 import Fp8Linear, require_fp8
from avatar.engines.liveavatar import fp8_blocks as fp8
from avatar.engines.liveavatar.config import BLOCK_FRAMES, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import S2VTransformer
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
