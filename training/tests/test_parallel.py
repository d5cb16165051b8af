"""All blocks of a clip at once give the numbers of the engine's cached, block-wise forward."""

from __future__ import annotations

import pytest
import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.config import S2VConfig, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.wan.schedule import Schedule

from training.parallel import Condition, flow, schedule

BLOCKS, SIDE = 6, 8


@pytest.fixture(scope="module")
def model() -> S2VTransformer:
    torch.manual_seed(0)
    config = S2VConfig(
        dim=256, ffn_dim=64, num_heads=2, num_layers=3, text_dim=16, audio_dim=8, audio_inject_layers=(0, 2)
    )
    model = S2VTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(("start", "sink", "rows", "window"), [(0, 30, 7, 4), (33, 7, 4, 2)])
def test_parallel_flow_equals_cached_flow(model, start, sink, rows, window):
    given = Condition(
        reference=torch.randn(1, 16, 1, SIDE, SIDE),
        motion=torch.randn(1, 16, 19, SIDE, SIDE),
        features=torch.randn(1, 25, 8, 12 * BLOCKS),
        text=torch.randn(1, 7, 16),
        text_rows=torch.tensor([rows]),
        start=torch.tensor([start]),
        sink=torch.tensor([sink]),
    )
    noisy = torch.randn(1, 16, 3 * BLOCKS, SIDE, SIDE)
    sampler = BlockSampler(
        model,
        SamplingConfig(sink_distance=sink, replace_sink=False, frames_per_clip=12 * window),
        context=given.text[0, :rows],
        reference=given.reference,
        motion=given.motion,
    )
    sampler.block_index = start // 3
    expected = []
    for b in range(BLOCKS):
        inputs = sampler.prepare_block(given.features[..., 12 * b : 12 * b + 12])
        expected.append(sampler.predict(inputs, noisy[:, :, 3 * b : 3 * b + 3], 2))
        sampler.block_index += 1
    made = flow(model, noisy, sampler.schedule.sigmas[2:3], given, window)
    torch.testing.assert_close(made, torch.cat(expected, 2), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [4, 32])
def test_schedule_is_the_engines(steps):
    torch.testing.assert_close(schedule(steps), Schedule(steps, 3.0).sigmas)
