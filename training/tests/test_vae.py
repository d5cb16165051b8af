"""The training VAE is the engine's VAE, computed over whole clips."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.vae import load_vae

from training import faces
from training.draw import render
from training.motion import talking
from training.start import linear_start
from training.vae import VAE


@pytest.fixture
def model() -> VAE:
    torch.manual_seed(0)
    model = VAE(12, 12).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter += 0.1 * torch.randn_like(parameter) * (1 if name.endswith("gamma") else 0.3)
    return model


def test_clips_are_encoded_and_decoded_as_the_engine_does_it(model, tmp_path):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "vae.safetensors")
    engine = WanVAE(load_vae(tmp_path / "vae.safetensors", torch.float32))
    video = torch.rand(1, 3, 13, 32, 48) * 2 - 1
    latents = model.encode(video)
    torch.testing.assert_close(latents, engine.encode(video), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        model.decode(latents).clamp(-1, 1), engine.decode(latents), atol=2e-5, rtol=1e-4
    )


def test_folding_statistics_rescales_latents_and_leaves_the_pictures(model):
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    latents, mean, std = model.encode(video), torch.randn(16), torch.rand(16) + 0.5
    picture = model.decode(latents)
    model.fold_statistics(mean, std)
    shape = (1, -1, 1, 1, 1)
    scaled = model.encode(video)
    torch.testing.assert_close(scaled, (latents - mean.view(shape)) / std.view(shape), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(scaled), picture, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("decoder_width", "error"), [(12, 0.03), (8, 0.035)])
def test_the_linear_start_gives_pictures_back_in_their_colours(decoder_width, error):
    generator = torch.Generator().manual_seed(0)
    motion = talking(torch.rand(6, 9, 3, generator=generator), generator, torch.zeros(6, dtype=torch.bool))
    video = render(faces.sample(6, generator), motion, 48).transpose(1, 2)
    torch.manual_seed(0)
    model = VAE(12, decoder_width).requires_grad_(False)
    linear_start(model, video)
    latents = model.encode(video)
    made = model.decode(latents)
    assert (made - video).square().mean() < error
    tint = torch.tensor([-0.5, 1.0, -0.5]).view(1, 3, 1, 1, 1)  # green-magenta, which is easily lost
    pair = torch.stack([(tint * made).sum(1).flatten(), (tint * video).sum(1).flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.9
