"""A part that was kept in 8 bits can be gone on with."""

from __future__ import annotations

import sys

import torch
from torch import nn

from training import keep, loop


def test_a_kept_part_resumes_as_it_was(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 4))
    whole, small = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    loop.save(whole, model, 70)
    monkeypatch.setattr(sys, "argv", ["keep", str(whole), str(small)])
    keep.main()
    again = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 4))
    assert loop.resume(small, again) == 70
    for found, expected in zip(again.parameters(), model.parameters(), strict=True):
        scale = expected.detach().flatten(1).abs().amax(1) if expected.ndim > 1 else expected.detach().abs()
        error = (found - expected).detach().abs().flatten(1 if expected.ndim > 1 else 0)
        assert (error.amax(-1) <= scale.max() / 127).all()
