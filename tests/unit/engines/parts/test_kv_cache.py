"""One step's cache against attention over lists of keys and values."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.attention.product import attention
from avatar.engines.parts.kv.cache import CacheShape, StepCache

LAYERS, HEADS, WIDTH = 2, 3, 8
CONDITION, BLOCK, SLOTS = 5, 6, 3
REFERENCE = 2
SHAPE = CacheShape(LAYERS, HEADS, WIDTH, REFERENCE, CONDITION, SLOTS * BLOCK, BLOCK)


def tokens(count: int) -> torch.Tensor:
    return torch.randn(1, count, HEADS, WIDTH)


@pytest.fixture
def cache() -> StepCache:
    return StepCache(SHAPE, torch.device("cpu"), torch.float32)


def test_a_block_attends_to_the_condition_and_the_newest_blocks(cache):
    condition = [(tokens(CONDITION), tokens(CONDITION)) for _ in range(LAYERS)]
    for layer, (k, v) in enumerate(condition):
        cache.set_condition(layer, k, v)
    past = [[pair] for pair in condition]
    for block in range(3 * SLOTS):
        cache.advance()
        for layer in range(LAYERS):
            q, k, v = tokens(BLOCK), tokens(BLOCK), tokens(BLOCK)
            past[layer].append((k, v))
            visible = past[layer][:1] + past[layer][1:][-SLOTS:]
            keys, values = (torch.cat(parts, 1) for parts in zip(*visible, strict=True))
            torch.testing.assert_close(cache.attend(layer, q, k, v), attention(q, keys, values))
        assert cache.visible_tokens == CONDITION + BLOCK * min(block + 1, SLOTS)


def test_tensors_keep_their_addresses(cache):
    addresses = [tensor.data_ptr() for tensor in cache.k + cache.v]
    for _ in range(2 * SLOTS):
        cache.advance()
        for layer in range(LAYERS):
            cache.set_condition(layer, tokens(CONDITION), tokens(CONDITION))
            cache.attend(layer, tokens(BLOCK), tokens(BLOCK), tokens(BLOCK))
    assert [tensor.data_ptr() for tensor in cache.k + cache.v] == addresses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_announced_memory_is_what_is_used(dtype):
    cache = StepCache(SHAPE, torch.device("cpu"), dtype)
    assert SHAPE.bytes(dtype) == sum(tensor.nbytes for tensor in cache.k + cache.v)


def test_placing_the_reference_changes_its_keys_alone(cache):
    for tensor in cache.k + cache.v:
        tensor.copy_(torch.randn_like(tensor))
    before = [tensor.clone() for tensor in cache.k + cache.v]
    keys = torch.randn(LAYERS, REFERENCE, HEADS, WIDTH)
    cache.place_reference(40, keys)
    assert cache.reference_time == 40
    for cached, old, key in zip(cache.k, before, keys, strict=False):
        assert torch.equal(cached[0, :REFERENCE], key)
        assert torch.equal(cached[:, REFERENCE:], old[:, REFERENCE:])
    assert all(torch.equal(new, old) for new, old in zip(cache.v, before[LAYERS:], strict=True))
