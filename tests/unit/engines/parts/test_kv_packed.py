"""Caches in 8 bits and in CPU memory against the plain ones."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from avatar.engines.parts.kv.cache import CacheFormat, CacheShape
from avatar.engines.parts.kv.formats import Decoded
from avatar.engines.parts.kv.packed import caches_bytes, make_caches, move_to_cpu

LAYERS, HEADS, WIDTH = 3, 2, 16
CONDITION, BLOCK, SLOTS, STEPS = 5, 6, 3, 3
REFERENCE = 2
SHAPE = CacheShape(LAYERS, HEADS, WIDTH, REFERENCE, CONDITION, SLOTS * BLOCK, BLOCK)
DEVICES = [
    torch.device("cpu"),
    pytest.param(
        torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


def draw(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.randn(shape).to(device)


def run(caches: list, device: torch.device, blocks: int = 3 * SLOTS) -> list[torch.Tensor]:
    """What is attended to in every layer, step and block, on values that depend on nothing else."""
    torch.manual_seed(0)
    tokens = lambda count: draw(1, count, HEADS, WIDTH, device=device)  # noqa: E731
    for layer in range(LAYERS):
        k, v = tokens(CONDITION), tokens(CONDITION)
        for cache in caches:
            cache.set_condition(layer, k, v)
    return more(caches, device, 0, blocks)


def more(caches: list, device: torch.device, first: int, blocks: int) -> list[torch.Tensor]:
    """What is attended to in further blocks."""
    tokens = lambda count: draw(1, count, HEADS, WIDTH, device=device)  # noqa: E731
    seen = []
    for block in range(first, first + blocks):
        keys = draw(LAYERS, REFERENCE, HEADS, WIDTH, device=device)
        for cache in caches:
            cache.advance()
            if block > SLOTS and cache.reference_time != block:
                cache.place_reference(block, keys)
            for layer in range(LAYERS):
                seen.append(cache.attend(layer, tokens(BLOCK), tokens(BLOCK), tokens(BLOCK)))
    return seen


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on_cpu", range(1, STEPS + 1))
def test_windows_in_cpu_memory_give_the_same_bit_for_bit(device, on_cpu):
    plain = run(make_caches(SHAPE, STEPS, device, torch.float32), device)
    waiting = run(make_caches(SHAPE, STEPS, device, torch.float32, on_cpu=on_cpu), device)
    assert all(torch.equal(a, b) for a, b in zip(plain, waiting, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on_cpu", range(1, STEPS + 1))
def test_8_bit_windows_in_cpu_memory_give_the_same_as_on_the_device(device, on_cpu):
    resident = run(make_caches(SHAPE, STEPS, device, torch.float32, CacheFormat.INT8), device)
    waiting = run(make_caches(SHAPE, STEPS, device, torch.float32, CacheFormat.INT8, on_cpu), device)
    assert all(torch.equal(a, b) for a, b in zip(resident, waiting, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_8_bits_stay_near_the_plain_caches(device):
    plain = torch.stack(run(make_caches(SHAPE, STEPS, device, torch.float32), device))
    packed = torch.stack(run(make_caches(SHAPE, STEPS, device, torch.float32, CacheFormat.INT8), device))
    error = (plain - packed).norm() / plain.norm()
    assert 1e-4 < error < 0.02
    # A block's own keys and values are not rounded, so the first one loses by the condition alone.
    assert (plain[0] - packed[0]).norm() / plain[0].norm() < error


@pytest.mark.parametrize("format", [CacheFormat.MODEL, CacheFormat.INT8])
def test_what_comes_in_another_order_than_expected_is_fetched_anew(format):
    cpu = torch.device("cpu")
    resident, waiting = (
        make_caches(SHAPE, STEPS, cpu, torch.float32, format, on_cpu) for on_cpu in (0, STEPS)
    )
    orders = [(0, 1, 2), (0, 2, 1), (2, 1, 0)]
    for order in orders:
        results = [run([caches[step] for step in order], cpu, 4) for caches in (resident, waiting)]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_stored_value_keeps_its_size(dtype):
    x = torch.randn(1, 50, HEADS, 128) * torch.logspace(-3, 3, 50)[None, :, None, None]
    x = torch.cat((x, torch.zeros(1, 1, HEADS, 128)), 1).to(dtype)
    store = Decoded(SHAPE, torch.device("cpu"), dtype, int8=True)
    out = torch.empty_like(x)
    store._decode(store._encode(x), out)
    error = (out.double() - x.double()).norm(dim=-1) / x.double().norm(dim=-1).clamp(min=1e-9)
    assert error.max() < 0.02
    assert torch.equal(out[:, -1], x[:, -1])


@pytest.mark.parametrize("format", [CacheFormat.MODEL, CacheFormat.INT8])
@pytest.mark.parametrize("on_cpu", range(STEPS + 1))
def test_the_announced_memory_is_what_is_used(format, on_cpu):
    caches = make_caches(SHAPE, STEPS, torch.device("cpu"), torch.bfloat16, format, on_cpu)
    found, waiting = {}, {}

    def count(into, tensors):
        for tensor in tensors:
            into[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    for cache in caches:
        if format is CacheFormat.MODEL and not on_cpu:
            count(found, cache.k + cache.v)
            continue
        shared = cache.shared
        count(found, shared.storage.extra)
        staged = [*shared.staging, *(sender.buffer for sender in shared.senders)] if on_cpu else []
        for layer in (*shared.condition, *staged):
            count(found, layer)
        for layer in cache.ring:
            count(waiting if cache.on_cpu else found, layer)
    expected = caches_bytes(SHAPE, STEPS, torch.bfloat16, format, on_cpu)
    assert (sum(found.values()), sum(waiting.values())) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("blocks", [0, 2, 2 * SLOTS])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CacheFormat.MODEL, CacheFormat.MODEL),
        (CacheFormat.MODEL, CacheFormat.INT8),
        (CacheFormat.INT8, CacheFormat.INT8),
    ],
)
@pytest.mark.parametrize("count", [1, None])
def test_caches_move_to_the_cpu_between_blocks(device, blocks, before, after, count):
    """As they are in their own format; plain ones may turn to 8 bits, then as if they had always been so."""
    expected = run(make_caches(SHAPE, STEPS, device, torch.float32, after), device, blocks + 3)
    caches = make_caches(SHAPE, STEPS, device, torch.float32, before)
    state, seen = run(caches, device, blocks), None
    moved = move_to_cpu(caches, after, count)
    assert len(moved) == STEPS and all(cache.blocks == blocks for cache in moved)
    assert [cache.on_cpu for cache in moved] == [step < (count or STEPS) for step in range(STEPS)]
    seen = state + more(moved, device, blocks, 3)
    error = torch.stack([(a - b).norm() / b.norm() for a, b in zip(seen, expected, strict=True)]).max()
    assert error == 0 if before == after else error < 0.03


@pytest.mark.parametrize("format", [CacheFormat.MODEL, CacheFormat.INT8])
def test_saved_windows_fit_wherever_they_wait(format):
    """The same names and order on the device and in CPU memory: a saved video may go on with another plan."""
    cpu = torch.device("cpu")
    saved, fresh = (make_caches(SHAPE, STEPS, cpu, torch.float32, format, on_cpu) for on_cpu in (0, 2))
    run(saved, cpu, 4)
    run(fresh, cpu, 4)
    for old, new in zip(saved, fresh, strict=True):
        pairs = list(zip(old.window(), new.window(), strict=True))
        assert all(torch.equal(a, b) and a.shape[:2] == (SLOTS, BLOCK) for a, b in pairs)


@pytest.mark.parametrize("on_cpu", [0, STEPS])
@pytest.mark.parametrize("format", [CacheFormat.INT8, CacheFormat.ATTENTION8])
def test_their_memory_is_free_as_soon_as_nobody_has_them(on_cpu, format):
    """Without waiting for the garbage collector, which knows nothing of a GPU's memory."""
    cpu = torch.device("cpu")
    caches = make_caches(SHAPE, STEPS, cpu, torch.float32, format, on_cpu)
    run(caches, cpu, 2)
    tensors = [part for cache in caches for part in (*cache.ring[0], *cache.shared.condition[0])]
    tensors += caches[0].shared.storage.extra + [
        part for buffer in caches[0].shared.staging for part in buffer
    ]
    left = [weakref.ref(tensor) for tensor in tensors]
    gc.disable()
    try:
        del caches, tensors
        assert not any(tensor() is not None for tensor in left)
    finally:
        gc.enable()
