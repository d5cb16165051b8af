"""The Triton kernels against the plain functions: on a GPU, or with Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.gpu import row_kernels
from avatar.engines.parts import regions

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
EPS = 1e-6


def test_a_cpu_takes_pytorch():
    x, y = torch.randn(2, 1, 3, 8)
    assert torch.equal(regions.add(x, y), x + y)


def test_a_device_where_triton_works_takes_the_kernels(monkeypatch):
    monkeypatch.setattr(regions, "available", lambda device: True)
    for name in ("total", "modulate", "modulate_speech", "rotate"):
        monkeypatch.setattr(row_kernels, name, lambda x, *_, name=name: name)
    x, y = torch.randn(2, 1, 3, 8)
    stream = regions.add(x, y)
    assert isinstance(stream, row_kernels.Sum)
    assert regions.total(stream, x.dtype) == "total"
    assert regions.modulate(stream, y, y, EPS, x.dtype) == "modulate"
    assert regions.modulate_speech(x, y, y, EPS) == "modulate_speech"
    assert regions.rotate(x, (y, y)) == "rotate"


@pytest.fixture
def kernels(monkeypatch):
    monkeypatch.setattr(regions, "available", lambda device: False)  # what kernels are compared with
    if row_kernels.triton is None:
        pytest.skip("Triton is not installed")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("Triton kernels need a GPU or TRITON_INTERPRET=1")


@pytest.fixture(params=[(6, 256), (9, 320), (3, 5120)], ids=str)
def values(request, kernels):
    tokens, width = request.param
    torch.manual_seed(tokens)
    draw = lambda *shape: torch.randn(shape, device=DEVICE)  # noqa: E731
    return draw(1, tokens, width) * 3 + 1, draw(1, tokens, width), *(draw(width) for _ in range(3))


def close(ours, expected) -> None:
    for one, other in zip(ours, expected, strict=True) if isinstance(ours, tuple) else [(ours, expected)]:
        assert one.dtype == other.dtype and one.shape == other.shape
        accuracy = 1e-5 if one.dtype == torch.float32 else 1e-2
        torch.testing.assert_close(one, other, rtol=accuracy, atol=accuracy)


def dequantised(rows: row_kernels.Rows) -> torch.Tensor:
    return rows.values.float() * rows.scale


def close_rows(rows: row_kernels.Rows, expected: torch.Tensor) -> None:
    """Within half a step of float8, at most 1/16 of a value, and of the smallest one that a row can hold."""
    expected = expected.flatten(0, -2)
    assert rows.values.shape == expected.shape
    limit = torch.maximum(expected.abs() / 15.9, expected.abs().amax(1, keepdim=True) / 448 / 256)
    wrong = (dequantised(rows) - expected).abs() > limit
    # The interpreter loses the carry where a value rounds up to a power of two.
    assert wrong.float().mean() <= (0.1 if INTERPRETED else 0)
    assert (rows.values.float().abs().amax(1) > 440).all()  # the row's range is used


def test_modulate(values):
    x, _, shift, scale, _ = values
    expected = regions.modulate(x, shift, scale, EPS, torch.float32)
    close(row_kernels.modulate(x, shift, scale, EPS, torch.float32), expected)
    close_rows(row_kernels.modulate(x, shift, scale, EPS, None), expected)


def test_a_residual_stream_with_one_to_three_terms(values):
    x, y, gate, weight, bias = values
    ours, expected = x, x
    for term, gate_ in ((y, gate), (y.flip(1), None), (x - y, bias)):
        ours, expected = row_kernels.add(ours, term, gate_), regions.add(expected, term, gate_)
        for dtype in (torch.float32, torch.bfloat16):
            close(row_kernels.total(ours, dtype), regions.total(expected, dtype))
        modulated = regions.modulate(expected, bias, gate, EPS, torch.float32)
        close(row_kernels.modulate(ours, bias, gate, EPS, torch.float32), modulated)
        close_rows(row_kernels.modulate(ours, bias, gate, EPS, None), modulated)
        normed = F.layer_norm(expected, weight.shape, weight, bias, EPS)
        close_rows(row_kernels.norm(ours, weight, bias, EPS), normed)


@pytest.mark.parametrize("speakers", [1, 2])
def test_speech_modulation(kernels, speakers):
    x = torch.randn(1, 12, 256, device=DEVICE)
    shift, scale = torch.randn(2, speakers, 3, 256, device=DEVICE)
    close(row_kernels.modulate_speech(x, shift, scale, EPS), regions.modulate_speech(x, shift, scale, EPS))


def test_quantised_rows_and_gelu(values):
    x, wide = values[0], torch.cat(values[:2], dim=-1)
    close_rows(row_kernels.quantise(x), x)
    close_rows(row_kernels.quantise(wide[..., : x.shape[-1]]), x)
    close_rows(row_kernels.quantise(x, gelu=True), F.gelu(x, approximate="tanh"))


def test_rms_norms_of_slices_and_their_rotation(values):
    x, y, weight, _, _ = values
    width, heads = x.shape[-1], x.shape[-1] // 32
    wide, weights = torch.cat((x, y, x), -1)[0, :, width:], torch.stack((weight, 1 - weight))
    expected = torch.stack(
        [F.rms_norm(part[0], (width,), w, EPS) for part, w in zip((y, x), weights, strict=True)]
    )
    expected = expected.unflatten(-1, (heads, -1))
    close(row_kernels.rms_norm(wide, weights, EPS, heads), expected)
    close(row_kernels.rms_norm(wide, weights[:1], EPS, heads), expected[:1])
    angle = torch.randn(len(wide), 16, device=DEVICE)
    rotation = angle.cos(), angle.sin()
    close(row_kernels.rms_norm(wide, weights, EPS, heads, rotation), regions.rotate(expected, rotation))


def test_norms_of_heads_and_their_rotation(values):
    x, y, weight, _, _ = values
    heads, wide = x.shape[-1] // 32, torch.cat((x, y, x), -1)
    weights = torch.stack((weight[:32], 1 - weight[:32]))
    angle = torch.randn(wide.shape[1], 16, device=DEVICE)
    for rotation in (None, (angle.cos(), angle.sin())):
        ours = row_kernels.head_norm(wide[0], weights, EPS, heads, rotation)
        close(ours[:, None], regions.head_norm(wide, weights, EPS, heads, rotation))


def test_swiglu(values):
    a, b = values[:2]
    expected = regions.swiglu(a, b, torch.float32)
    close(row_kernels.swiglu(a, b, torch.float32), expected)
    close_rows(row_kernels.swiglu(a, b, None), expected)


def test_layer_norm_in_a_format(values):
    x, y, weight, bias, gate = values
    expected = regions.norm(regions.add(x, y, gate), weight, bias, EPS, torch.float32)
    close(row_kernels.norm(row_kernels.add(x, y, gate), weight, bias, EPS, torch.float32), expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_rotation(kernels, batch):
    x = torch.randn(batch, 5, 3, 32, device=DEVICE)
    angle = torch.randn(5, 16, device=DEVICE)
    rotation = angle.cos(), angle.sin()
    close(row_kernels.rotate(x, rotation), regions.rotate(x, rotation))
