"""Functions that are replayed as CUDA graphs."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.graphs import CapturedCall, GraphLane, can_capture

DEVICE = torch.device("cuda")


def test_a_cpu_captures_nothing():
    assert not can_capture(torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available() or not can_capture(DEVICE), reason="needs a GPU")
def test_graphs_of_a_lane_give_what_the_functions_give():
    weight, lane = torch.randn(8, 8, device=DEVICE), GraphLane(DEVICE)
    runs = []

    def function(x, pair):
        runs.append(tuple(x.shape))
        return x @ weight + pair[0] * pair[1], x.sum()

    first, second = CapturedCall(function, lane), CapturedCall(lambda x: (x @ weight).relu(), lane)
    kept = []
    for rows in (3, 5, 3, 5):
        x, pair = torch.randn(rows, 8, device=DEVICE), list(torch.randn(2, rows, 8, device=DEVICE))
        kept.append((first(x, pair), (x @ weight + pair[0] * pair[1], x.sum())))
        torch.testing.assert_close(second(x), (x @ weight).relu())
    for found, expected in kept:  # copies: what came later did not write over them
        torch.testing.assert_close(found, expected)
    assert runs.count((3, 8)) == runs.count((5, 8)) == 4  # three to warm up, and the capture
