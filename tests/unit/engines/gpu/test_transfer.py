"""Tensors go to a GPU and back without anybody waiting; on a CPU nothing is copied."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.transfer import beside, fetch, hand_over, send
from avatar.engines.parts.face import keypoints

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_on_a_cpu_nothing_is_copied():
    x = torch.arange(6).view(2, 3)
    assert send(x, "cpu") is x
    with beside(None, x):
        y = x + 1
    hand_over([y])
    assert fetch(y)() is y


def test_constants_are_made_once():
    device = torch.device("cpu")
    assert keypoints._constant(keypoints.COLOURS, device) is keypoints._constant(keypoints.COLOURS, device)


@needs_gpu
def test_expanded_and_transposed_tensors_arrive():
    for x in (torch.arange(4).expand(3, 4), torch.arange(6).view(2, 3).t()):
        assert torch.equal(fetch(send(x, "cuda"))(), x)


@needs_gpu
def test_work_on_another_stream_is_waited_for():
    stream = torch.cuda.Stream()
    x = torch.ones(1000, 1000, device="cuda")
    with beside(stream, x):
        for _ in range(50):
            x = x @ x / 1000
    hand_over([x])
    assert torch.equal((x + 1).cpu(), torch.full((1000, 1000), 2.0))
