"""Attention to few keys: padding that one key stands for, and the kernel (on a GPU, or with TRITON_INTERPRET=1)."""

from __future__ import annotations

import os

import pytest
import torch
from avatar.engines.gpu.triton_support import triton
from avatar.engines.parts.attention import few_keys as short_attention
from avatar.engines.parts.attention.flash import plain
from avatar.engines.parts.attention.product import attention

from tests.unit.tiny_s2v import CONFIG, model, noise

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


def draw(batch: int, queries: int, keys: int, last: int, width: int = 64, device: str = "cpu"):
    """Queries, keys and values, and what attention to all of them gives, the last ``last`` times."""
    torch.manual_seed(keys)
    q, k, v = (torch.randn(batch, n, 3, width, device=device) for n in (queries, keys, keys))
    times = torch.ones(keys, dtype=torch.long, device=device)
    times[-1] = last
    return (q, k, v), plain(q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))


def test_one_key_stands_for_the_padding():
    tensors, expected = draw(2, 7, 5, 11)
    torch.testing.assert_close(attention(*tensors, 11), expected)


@pytest.mark.skipif(
    triton is None or not (torch.cuda.is_available() or INTERPRETED),
    reason="needs Triton and a GPU, or TRITON_INTERPRET=1",
)
@pytest.mark.parametrize(
    ("batch", "queries", "keys", "last"),
    [(1, 150, 1, 512), (1, 64, 65, 448), (3, 70, 5, 1), (2, 30, 32, 2), (1, 20, 100, 1)],
)
def test_the_kernel(batch, queries, keys, last):
    tensors, expected = draw(batch, queries, keys, last, device=DEVICE)
    found = short_attention.attend(*(x.half() for x in tensors), last)
    assert found.shape == expected.shape
    assert (found.float() - expected).norm() < 2e-3 * expected.norm()


def test_a_prompt_keeps_one_token_of_its_padding():
    transformer, words = model(), noise(5, CONFIG.text_dim)
    cross, padding = transformer.blocks[0].cross_attn, CONFIG.text_len - 5
    padded = torch.cat((words, torch.zeros(padding, CONFIG.text_dim)))
    q = noise(1, 9, CONFIG.num_heads, CONFIG.head_dim)
    expected = attention(q, *cross.key_value(transformer.text_embedding(padded[None])))
    for context in (words, padded, torch.cat((padded, words))):
        text = transformer.encode_text(context)[0]
        assert text.k.shape[1] == 6 and text.last == padding
        torch.testing.assert_close(attention(q, *text), expected)


@pytest.mark.parametrize(("words", "kept", "last"), [(0, 1, 12), (11, 12, 1), (12, 12, 1)])
def test_prompts_of_all_lengths(words, kept, last):
    text = model().encode_text(noise(words, CONFIG.text_dim))[-1]
    assert (text.k.shape[1], text.last) == (kept, last)
