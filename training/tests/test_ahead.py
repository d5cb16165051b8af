"""Clips that are drawn before they are asked for, and trainings of several processes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="needs skia-python and the libraries libEGL and libGL", exc_type=ImportError
)

import torch

from tools.comfyui import free_port
from tools.environment import ROOT
from training.corpus import RATE, Recording
from training.figures.clips import Ahead, ClipSource, Drawers


def test_clips_are_drawn_ahead_in_the_order_in_which_they_would_be_drawn_now():
    recordings = [Recording("a", np.zeros(RATE * 6, np.float32), np.zeros((600, 3), np.float32))]
    source, now = (ClipSource(recordings, 5, "cpu", Drawers(0)) for _ in range(2))
    ahead = Ahead(lambda: source.draw(1, 2), lambda clip: clip.bytes(64), 3)
    for _ in range(4):
        clip, pixels = ahead.next()
        expected = now.draw(1, 2)
        assert clip.people == expected.people
        assert torch.equal(pixels, expected.bytes(64))
    ahead.close()


SHARE = """
import sys, torch
from training.loop import Peers
peers = Peers()
torch.manual_seed(peers.rank)
model = torch.nn.Linear(3, 2)
peers.same(model)
model(torch.full((1, 3), float(peers.rank))).sum().backward()
progress = peers.share(model, 0.25 + 0.5 * peers.rank)
torch.save({"weight": model.weight.detach(), "gradient": model.weight.grad, "progress": progress}, sys.argv[1])
peers.close()
"""


def test_two_processes_have_the_same_weights_gradients_and_end(tmp_path):
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, tmp_path / str(rank)], env={**common, "RANK": str(rank)}
        )
        for rank in range(2)
    ]
    assert [run.wait(120) for run in runs] == [0, 0]
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert torch.equal(first["weight"], second["weight"])
    assert torch.equal(first["gradient"], second["gradient"])
    assert torch.equal(first["gradient"], torch.full((2, 3), 0.5))  # of 0 and 1
    assert first["progress"] == second["progress"] == 0.5
