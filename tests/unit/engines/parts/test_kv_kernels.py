"""The kernels of 8-bit caches against the plain functions: on a GPU, or with Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from avatar.engines.gpu.triton_support import triton
from avatar.engines.parts.kv import int8_kernels as kv_kernels
from avatar.engines.parts.kv.cache import CacheShape
from avatar.engines.parts.kv.formats import Decoded

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
HEADS, WIDTH = 3, 16
SHAPE = CacheShape(1, HEADS, WIDTH, reference_tokens=2, condition_tokens=5, ring_tokens=21, block_tokens=7)

pytestmark = [
    pytest.mark.skipif(triton is None, reason="Triton is not installed"),
    pytest.mark.skipif(
        not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU or TRITON_INTERPRET=1"
    ),
]


def draw(tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys, and values that are a slice of something wider, as those of a joint projection are."""
    both = torch.randn(1, tokens, 2 * HEADS * WIDTH, device=DEVICE) * 3
    k, v = both.to(dtype).chunk(2, dim=-1)
    return k.unflatten(-1, (HEADS, -1)).contiguous(), v.unflatten(-1, (HEADS, -1))


def kept(store: Decoded, tokens: int) -> list[torch.Tensor]:
    """Room for ``tokens`` as they are kept."""
    return [torch.zeros(shape, device=DEVICE, dtype=dtype) for shape, dtype in store._layout(tokens)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_stored_as_by_the_plain_functions(dtype):
    k, v = draw(11, dtype)
    store = Decoded(SHAPE, DEVICE, dtype, int8=True)
    stored, plain = kept(store, 11), kept(store, 11)
    kv_kernels.encode(k, v, stored)
    store._kernels = False
    store.encode(0, k, v, plain)
    for ours, theirs in zip(stored, plain, strict=True):
        if ours.dtype == torch.int8:  # a scale may be rounded the other way
            assert (ours.int() - theirs.int()).abs().max() <= 1
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0)
    for x, parts in ((k, stored[:2]), (v, stored[2:])):
        store._decode(parts, out := torch.empty_like(x[0]))
        assert (out.float() - x[0].float()).norm() / x.float().norm() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", range(1, 6))
def test_what_a_block_sees_is_put_together_as_by_the_plain_functions(block, dtype):
    torch.manual_seed(block)
    store = Decoded(SHAPE, DEVICE, dtype, int8=True)
    condition, new = kept(store, SHAPE.condition_tokens), draw(SHAPE.block_tokens, dtype)
    store.set_condition(0, condition, *draw(SHAPE.condition_tokens, dtype))
    ring = [torch.zeros(shape, device=DEVICE, dtype=kind) for shape, kind in store.ring_layout]
    for slot in range(SHAPE.slots):
        store.encode(0, *draw(SHAPE.block_tokens, dtype), [part[slot] for part in ring])
    found = []
    for kernels in (True, False):
        store._kernels = kernels
        seen = torch.full((2, 1, SHAPE.visible(block), HEADS, WIDTH), 7.0, device=DEVICE, dtype=dtype)
        store.put_together(condition, ring, *new, block, *seen)
        found.append(seen)
    torch.testing.assert_close(*found, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
