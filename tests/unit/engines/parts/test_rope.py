"""Rotary positions."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.framepack import motion_rotation
from avatar.engines.parts.wan.rope import RotaryEmbedding, concatenate, rotate

ROPE = RotaryEmbedding(128, half_precision=False)
DEVICE = torch.device("cpu")


def at(time: int, row: int = 0, column: int = 0, rope: RotaryEmbedding = ROPE):
    return rope.grid((time,), (row,), (column,))


def score(query: torch.Tensor, key: torch.Tensor, one, other) -> float:
    return (rotate(query, one) * rotate(key, other)).sum().item()


def test_a_head_is_shared_by_time_rows_and_columns():
    assert ROPE.axis_pairs == (22, 21, 21)
    assert sum(RotaryEmbedding(64).axis_pairs) == 32


def test_the_origin_turns_nothing_and_no_rotation_changes_a_length():
    x = torch.randn(1, 24, 2, 128)
    rotation = ROPE.grid(range(7, 9), range(3), range(4))
    turned = rotate(x, rotation)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned, x)
    assert torch.equal(rotate(x[:, :1], at(0)), x[:, :1])


@pytest.mark.parametrize("far", [100, 44_990, 90_000, 10_000_000])
@pytest.mark.parametrize("distance", [-19, 0, 1, 30])
def test_only_distances_count_however_late_it_is(far, distance):
    query, key = torch.randn(1, 1, 1, 128), torch.randn(1, 1, 1, 128)
    near = score(query, key, at(0, 2, 3), at(distance, 1, 5))
    late = score(query, key, at(far, 7, 4), at(far + distance, 6, 6))
    assert late == pytest.approx(near, abs=1e-3)


def test_negative_times_turn_the_other_way():
    (cos, sin), (cos_negative, sin_negative) = at(19), at(-19)
    assert torch.equal(cos, cos_negative) and torch.equal(sin, -sin_negative)


def test_points_are_ordered_time_row_column():
    cos, sin = ROPE.grid((4, 5), (0, 2), (1, 3))
    points = [at(t, r, c) for t in (4, 5) for r in (0, 2) for c in (1, 3)]
    expected = concatenate(points)
    assert torch.equal(cos, expected[0]) and torch.equal(sin, expected[1])


def test_half_precision_rounds_the_tables():
    for exact, rounded in zip(at(1234, 5, 6), at(1234, 5, 6, RotaryEmbedding(128)), strict=True):
        assert rounded.dtype == torch.float32 and torch.equal(rounded, exact.half().float())
        assert not torch.equal(rounded, exact)


def test_values_keep_their_dtype():
    assert rotate(torch.randn(1, 1, 2, 128).bfloat16(), at(3)).dtype == torch.bfloat16


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (24, 44), (44, 24)])
def test_the_packed_history_has_one_and_a_half_pictures_of_tokens(rows, columns):
    cos, sin = motion_rotation(ROPE, rows, columns, DEVICE)
    assert cos.shape == sin.shape == (rows * columns * 3 // 2, 64)
