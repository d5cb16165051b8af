"""Attention over keys and values in 8 bits: against exact attention, and its kernels against the plain functions."""

from __future__ import annotations

import os

import pytest
import torch
from avatar.engines.gpu.triton_support import triton
from avatar.engines.parts.attention import eight_bit as eight_kernels
from avatar.engines.parts.attention import eight_bit_hopper as eight_hopper
from avatar.engines.parts.attention.product import attention
from avatar.engines.parts.kv.cache import CacheShape
from avatar.engines.parts.kv.eight_bit import ORDER, TILE, EightBit

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()
CPU = torch.device("cpu")
HEADS, WIDTH = 2, 128
REFERENCE, CONDITION, BLOCK, SLOTS = 140, 350, 150, 3
SHAPE = CacheShape(1, HEADS, WIDTH, REFERENCE, CONDITION, SLOTS * BLOCK, BLOCK)

kernels = pytest.mark.skipif(
    triton is None or not (GPU or INTERPRETED), reason="needs Triton and a GPU, or TRITON_INTERPRET=1"
)


class Store:
    """One layer's condition and ring."""

    def __init__(self, device: torch.device, kernels: bool, dtype=torch.float32, shape=SHAPE) -> None:
        self.store = EightBit(shape, device, dtype)
        self.store._kernels = kernels
        self.condition, self.ring = (
            [torch.zeros(size, device=device).to(kind) for size, kind in layout]
            for layout in (self.store.condition_layout, self.store.ring_layout)
        )

    def block(self, number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        self.store.encode(0, k, v, [part[self.store.shape.slot(number)] for part in self.ring])
        return self.store.attend(0, q, k, v, self.condition, self.ring, number)


def tokens(count: int, device: torch.device = CPU, dtype=torch.float32, common: float = 0.0) -> torch.Tensor:
    """Random vectors, with what all of them have in common."""
    shared = torch.linspace(-1, 1, HEADS * WIDTH).view(HEADS, WIDTH) * common
    return (torch.randn(1, count, HEADS, WIDTH) + shared).to(device, dtype)


def video(stores: list[Store], device: torch.device, dtype: torch.dtype, common: float = 0.0, blocks=5):
    """What each store makes of the same blocks, and what exact attention does, less the values' common part."""
    torch.manual_seed(0)
    make = lambda count: tokens(count, device, dtype, common)  # noqa: E731
    k, v = make(CONDITION), make(CONDITION)
    mean = v.float().mean(1, keepdim=True)
    for store in stores:
        store.store.set_condition(0, store.condition, k, v)
    past, found = [], []
    for number in range(1, blocks + 1):
        if number == 4:
            k = torch.cat((make(REFERENCE), k[:, REFERENCE:]), 1)
            for store in stores:
                store.store.place_reference(0, store.condition, k[0, :REFERENCE])
        q, *new = make(BLOCK), make(BLOCK), make(BLOCK)
        past = [*past, new][-SLOTS:]
        keys, values = (torch.cat(parts, 1) for parts in zip((k, v), *past, strict=True))
        exact = attention(q.float(), keys.float(), values.float())
        seen = [store.block(number, q, *new).float() for store in stores]
        found.append([x - mean for x in (exact, *seen)])
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


def error(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float((x - truth).norm() / truth.norm())


@pytest.mark.parametrize("common", [0.0, 5.0])
def test_what_is_kept_is_near_what_was_given(common):
    """Also where keys and values share a large part: it is taken away before they are rounded."""
    exact, plain = video([Store(CPU, False)], CPU, torch.float32, common)
    assert 1e-3 < error(plain, exact) < 0.04


def test_the_order_of_values_is_a_permutation_within_32_tokens():
    assert sorted(ORDER.tolist()) == list(range(32))
    assert ORDER.tolist() != list(range(32))


def test_every_piece_is_padded_with_zeros_to_whole_tiles():
    store = Store(CPU, False)
    video([store], CPU, torch.float32, common=5.0)
    pieces = [REFERENCE, CONDITION - REFERENCE]
    begins = [0, -(-pieces[0] // TILE) * TILE]
    keys = store.condition[0]
    for begin, count in zip(begins, pieces, strict=True):
        end = begin - (-count // TILE) * TILE
        assert (
            keys[:, begin + count : end].abs().sum() == 0 and keys[:, begin : begin + count].abs().sum() > 0
        )
    assert store.ring[0][:, :, BLOCK:].abs().sum() == 0
    # A token's place among the values is another one within its 32.
    assert store.ring[2][..., -(-BLOCK // 32) * 32 :].float().abs().sum() == 0


@kernels
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_keeps_what_the_plain_function_keeps(values, dtype):
    device = torch.device("cuda" if GPU else "cpu")
    plain, fast = (Store(device, kernels, dtype) for kernels in (False, True))
    for store in (plain, fast):
        torch.manual_seed(0)
        k, v = (tokens(CONDITION, device, dtype, 2.0) for _ in range(2))
        store.store.set_condition(0, store.condition, k, v)
    first = 2 if values else 0
    levels, scales = ([store.condition[i].float() for store in (fast, plain)] for i in (first, first + 1))
    torch.testing.assert_close(*scales, rtol=1e-5, atol=0)
    # Halves may be rounded the other way.
    step = (levels[1].abs() / 8).clamp(min=2**-9) if values else 1
    far = (levels[0] - levels[1]).abs() > step
    assert far.float().mean() <= (0.05 if values and INTERPRETED else 0)  # its float8 loses a carry


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("hopper", [False, True])
@pytest.mark.parametrize("common", [0.0, 5.0])
def test_the_kernel_attends_to_what_is_kept(monkeypatch, hopper, common):
    device = torch.device("cuda")
    if hopper and not eight_hopper.available(device):
        pytest.skip("needs a GPU of the Hopper generation and Triton's Gluon")
    monkeypatch.setattr(eight_kernels, "_on_hopper", lambda *_: hopper)
    stores = [Store(device, True, torch.bfloat16), Store(device, False, torch.bfloat16)]
    exact, fast, plain = video(stores, device, torch.bfloat16, common)
    # Rounding queries and weights comes on top.
    assert error(fast, plain) < 0.04
    assert error(fast, exact) < 0.05


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("split", [(0, 2), (1, 4), (3, 6)])
def test_a_program_may_be_split(monkeypatch, split):
    device = torch.device("cuda")
    if not eight_hopper.available(device):
        pytest.skip("needs a GPU of the Hopper generation and Triton's Gluon")
    monkeypatch.setattr(eight_kernels, "_on_hopper", lambda *_: True)
    found = []
    for chosen in ((4, 1), split):
        monkeypatch.setattr(eight_hopper, "split", lambda *_, chosen=chosen: chosen)
        exact, ours = video([Store(device, True, torch.bfloat16)], device, torch.bfloat16, 5.0)
        found.append(error(ours, exact))
    assert found[1] < 1.1 * found[0]


def test_what_would_be_a_last_partly_idle_round_is_split():
    assert eight_hopper.split(132 * 3, 100, 132) == (132 * 3, 1)
    assert eight_hopper.split(132 * 7 + 76, 122, 132) == (132 * 7, 3)
    assert eight_hopper.split(20, 122, 132) == (0, 6)
    assert eight_hopper.split(20, 5, 132) == (20, 1)  # too few keys
    # What is tried before the first use: 500 queries and keys at a time, two heads.
    assert eight_hopper.split(8, 12, 132) == (8, 1) and eight_hopper.split(8, 16, 132)[1] > 1


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("hopper", [False, True])
def test_sums_over_many_tiles_keep_what_values_share(monkeypatch, hopper):
    """Products summed over many tiles by the matrix unit itself would lose a tenth of it."""
    device = torch.device("cuda")
    if hopper and not eight_hopper.available(device):
        pytest.skip("needs a GPU of the Hopper generation and Triton's Gluon")
    monkeypatch.setattr(eight_kernels, "_on_hopper", lambda *_: hopper)
    block = 2000
    store = Store(
        device, True, torch.bfloat16, CacheShape(1, HEADS, WIDTH, REFERENCE, CONDITION, SLOTS * block, block)
    )
    torch.manual_seed(0)
    keys, values = ([tokens(CONDITION, device, torch.bfloat16)] for _ in range(2))
    store.store.set_condition(0, store.condition, keys[0], values[0])
    for number in range(1, SLOTS + 1):
        q, k = (tokens(block, device, torch.bfloat16) for _ in range(2))
        v = tokens(block, device, torch.bfloat16, common=1.0)  # which the condition has not
        found = store.block(number, q, k, v).float()
        keys.append(k)
        values.append(v)
    exact = attention(q.float(), torch.cat(keys, 1).float(), torch.cat(values, 1).float())
    assert error(found, exact) < 0.02
