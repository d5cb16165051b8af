"""Keys and values of LongCat's clean latents in 8 bits, beside those in the model's format."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.longcat.cache import CleanCache, EightBitCache
from avatar.engines.longcat.layout import Layout

from tools.tiny_longcat import TINY

CONFIG, CPU = TINY["1.5"], torch.device("cpu")
LAYOUTS = {
    "picture": Layout(5, 9, 1, 4),
    "continuation": Layout(5, 9, 3, 6, position=3, skip=1),
    "reference far away": Layout(5, 9, 3, 6, position=30, skip=1),
    "whole tiles": Layout(8, 16, 3, 2, position=1),
}


def drawn(tokens: int) -> torch.Tensor:
    """Values with a part in common, as real ones have."""
    return torch.randn(1, tokens, CONFIG.num_heads, CONFIG.head_dim) + 2


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_eight_bits_stay_close(layout):
    torch.manual_seed(0)
    plain = CleanCache(layout)
    kept = EightBitCache(layout, CONFIG, CPU, torch.float32, several=True)
    for layer in range(CONFIG.depth):
        k, v = drawn(layout.clean * layout.tokens), drawn(layout.clean * layout.tokens)
        plain.store(layer, k, v)
        kept.store(layer, k, v)
    for _ in range(2):  # the buffers for noisy tokens are used again and again
        for layer in range(CONFIG.depth):
            q, k, v = (drawn(layout.noisy * layout.tokens) for _ in range(3))
            expected = plain.attend(layer, q, k, v)
            error = (kept.attend(layer, q, k, v) - expected).norm() / (expected - expected.mean()).norm()
            assert 0 < error < 0.04
            assert torch.equal(kept.first_keys(layer), plain.first_keys(layer))


def test_the_reference_is_not_seen_in_the_skip_range():
    torch.manual_seed(1)
    layout = LAYOUTS["continuation"]
    found = []
    for size in (1.0, 50.0):
        torch.manual_seed(2)
        kept = EightBitCache(layout, CONFIG, CPU, torch.float32)
        k, v = drawn(layout.clean * layout.tokens), drawn(layout.clean * layout.tokens)
        v[:, : layout.tokens] += size - 1
        kept._kept.means[0] = 2.0
        kept._kept._known[0] = True
        kept.store(0, k, v)
        found.append(kept.attend(0, *(drawn(layout.noisy * layout.tokens) for _ in range(3))))
    rows = slice(layout.skipped.start * layout.tokens, layout.skipped.stop * layout.tokens)
    changed = (found[0] - found[1]).abs().amax((0, 2, 3))
    assert changed[rows].max() < 1e-6
    assert changed.max() > 1
