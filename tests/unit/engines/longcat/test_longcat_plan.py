"""Which blocks of LongCat wait in CPU memory, on machines of several sizes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from avatar.engines.longcat.config import LongCatConfig, SamplingConfig
from avatar.engines.longcat.plan import Video, Weights, advice, make_plan
from avatar.engines.parts.planning.plan import Machine

GB = 10**9
VIDEO = Video(LongCatConfig(), Weights(650_000_000, 500_000_000), 480, 832, SamplingConfig())


def machine(free: float, cpu: float = 64) -> Machine:
    return Machine(free=int(free * GB), total=int(free * GB), free_cpu=int(cpu * GB), gpu=True, fp8=True)


def test_kept_tokens_take_what_the_published_model_takes():
    assert VIDEO.kept == pytest.approx(6.1 * GB, rel=0.01)  # a continuation at 480p in bfloat16


def test_a_large_card_keeps_everything_and_smaller_ones_fewer_and_fewer_blocks():
    plans = [make_plan(VIDEO, machine(free)) for free in (141, 80, 48, 32, 24)]
    waiting = [plan.blocks_on_cpu for plan in plans]
    assert waiting[:2] == [0, 0] and 0 < waiting[2] < waiting[3] < waiting[4] <= 48
    assert all(
        plan.needed <= 0.99 * free * GB for plan, free in zip(plans, (141, 80, 48, 32, 24), strict=True)
    )
    assert plans[4].cpu == waiting[4] * VIDEO.weights.block
    assert plans[4].text.startswith(f"{waiting[4]} blocks in CPU memory: ")


def test_a_wish_is_followed_or_refused_in_a_sentence():
    assert make_plan(replace(VIDEO, blocks_on_cpu=40), machine(141)).blocks_on_cpu == 40
    with pytest.raises(ValueError, match="at most 48"):
        make_plan(replace(VIDEO, blocks_on_cpu=49), machine(141))
    with pytest.raises(MemoryError, match="smaller size"):
        make_plan(replace(VIDEO, blocks_on_cpu=0), machine(24))
    with pytest.raises(MemoryError, match="CPU memory"):
        make_plan(VIDEO, machine(24, cpu=4))
    with pytest.raises(ValueError, match="help a GPU only"):
        make_plan(replace(VIDEO, blocks_on_cpu=1), replace(machine(24), gpu=False))


def test_out_of_memory_says_what_would_have_fitted():
    assert re.search(r"832x480 was planned.*blocks_on_cpu \d+ or \d+x\d+", advice(VIDEO, machine(48)))
