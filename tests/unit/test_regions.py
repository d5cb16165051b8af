"""What is handed to a compiler: the elementwise work as regions, and the VAE's decoder."""

from __future__ import annotations

import functools
import importlib.util

import pytest
import torch
from avatar.liveavatar.regions import PLAIN
from avatar.liveavatar.vae import WanVAE
from diffusers import AutoencoderKLWan

from tests.unit.tiny_s2v import GRID, features, model, sampler


@pytest.fixture
def traced(monkeypatch):
    """Regions as the compiler sees them, in one piece each, run without generating code."""
    whole = functools.partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    torch.compiler.reset()
    model().compile_regions(torch.device("cpu"))
    yield
    model().regions = PLAIN
    torch.compiler.reset()


@pytest.mark.parametrize("speakers", [1, 2])
def test_every_region_is_one_graph_and_changes_nothing(request, speakers):
    def run() -> list[torch.Tensor]:
        generated = sampler(steps=1, frames_per_clip=24)
        masks = torch.rand(speakers, 3, *GRID, generator=torch.Generator().manual_seed(0)).round()
        return [generated.next_block(features(block, speakers), None, masks) for block in range(4)]

    plain = run()
    request.getfixturevalue("traced")
    for one, other in zip(run(), plain, strict=True):
        torch.testing.assert_close(one, other)


def test_the_decoder_is_one_graph_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    torch.manual_seed(0)
    vae = WanVAE(AutoencoderKLWan(base_dim=4).eval().requires_grad_(False))
    latents = torch.randn(1, 16, 5, 4, 4)
    plain = vae.decode(latents)
    vae.compile_decoder()
    torch.testing.assert_close(vae.decode(latents), plain)


def test_without_triton_a_gpu_refuses_to_compile(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="install triton"):
        model().compile_regions(torch.device("cuda"))
    assert model().regions is PLAIN
