"""The small decoder is trained on whole clips and used latent by latent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.parts.wan.fast_decoder import FastDecoder

pytest.importorskip("skia", reason="skia-python is not installed or lacks libraries", exc_type=ImportError)

from training.train_fast_decoder import build, decode


def test_whole_clips_are_decoded_as_the_stream_does_it():
    torch.manual_seed(0)
    model = build().requires_grad_(False)
    latents = torch.randn(2, 16, 5, 4, 6)
    made = decode(model, latents)
    assert made.shape == (2, 3, 17, 32, 48) and made.std() > 0.01
    torch.testing.assert_close(
        made.clamp(-1, 1), FastDecoder(model, "new").decode(latents), atol=1e-5, rtol=1e-4
    )


def test_it_begins_grey_and_learns():
    torch.manual_seed(0)
    model = build()
    latents = torch.randn(2, 16, 3, 4, 4)
    target = F.interpolate(latents[:, :3, [0, 1, 1, 1, 1, 2, 2, 2, 2]].tanh(), scale_factor=(1, 8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = (decode(model, latents) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - target.abs().mean().item()) < 0.15
    assert losses[-1] < 0.6 * losses[0]
