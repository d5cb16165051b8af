"""The autoencoder's kernels against torch, and its fused layers against diffusers': on a GPU, or with Triton's
interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import functools
import os

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.parts.wan import vae_fused, vae_kernels
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.fixture(autouse=True)
def kernels():
    if vae_kernels.triton is None:
        pytest.skip("Triton is not installed")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("Triton kernels need a GPU or TRITON_INTERPRET=1")
    torch.manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE)


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    # Off the interpreter float32 products are TF32's.
    accuracy = 1e-4 if INTERPRETED else 5e-3
    torch.testing.assert_close(ours, expected, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("channels", [32, 96])
def test_norm_silu_and_the_past(frames, channels):
    x, gamma, bias = draw(2, frames, 5, 7, channels) * 3, draw(channels), draw(channels)
    x[:, :, 0, 0] = -bias
    before = draw(2, 2, 5, 7, channels)
    expected = F.silu(F.normalize(x + bias, dim=-1) * channels**0.5 * gamma)
    out, kept = vae_kernels.norm_silu(x, bias, gamma, before)
    close(out, torch.cat((before, expected), 1))
    assert torch.equal(kept, out[:, -2:])
    assert kept.untyped_storage().nbytes() == kept.nbytes
    stacked, again = vae_kernels.norm_silu(x, bias, gamma, before, stacked=True)
    assert torch.equal(again, kept)
    assert torch.equal(stacked, torch.cat([out[:, i : i + frames] for i in range(3)], -1))
    out, _ = vae_kernels.norm_silu(x, None, gamma, before)
    close(out[:, 2:], F.silu(F.normalize(x, dim=-1) * channels**0.5 * gamma))


def test_addition():
    x, y, bias = draw(2, 3, 5, 7, 96), draw(2, 3, 5, 7, 96), draw(96)
    close(vae_kernels.add_rows(x, y, bias), x + y + bias)


@pytest.mark.parametrize("channels", [3, 96])
def test_sets_of_pixels_become_one_map(channels):
    sets, bias = draw(2, 4, 6, 4 * channels), draw(channels)
    expected = torch.empty(2, 6, 10, channels, device=DEVICE)
    for i in range(2):
        for j in range(2):
            part = sets[..., (2 * i + j) * channels :][..., :channels]
            expected[:, i::2, j::2] = part[:, i : i + 3, j : j + 5] + bias
    close(vae_kernels.interleave(sets, bias), expected)


@functools.lru_cache
def model() -> AutoencoderKLWan:
    torch.manual_seed(0)
    made = AutoencoderKLWan(base_dim=32, num_res_blocks=1).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("gamma"):
            parameter += torch.randn_like(parameter) / 4
    return torch.nn.Module.to(made, DEVICE)


@pytest.fixture
def fused(monkeypatch):
    def use(on: bool) -> WanVAE:
        monkeypatch.setattr(vae_fused, "usable", lambda x: on)
        return WanVAE(model())

    return use


def test_fused_layers_give_what_diffusers_gives(fused):
    latents, video = draw(2, 16, 3, 1, 2), draw(2, 3, 9, 8, 16).clamp(-1, 1)
    plain = fused(False)
    expected = plain.decode(latents), plain.encode(video)
    ours = fused(True)
    for one, other in zip((ours.decode(latents), ours.encode(video)), expected, strict=True):
        assert ((one - other).norm() / other.norm()) < (1e-5 if INTERPRETED else 2e-3)


def test_fused_layers_stream(fused):
    vae, latents = fused(True), draw(1, 16, 5, 1, 2)
    whole = vae.decode(latents)
    stream = vae.stream()
    stream.prime(latents[:, :, :3])
    decoded = vae.stream()
    decoded(latents[:, :, :3])
    state = decoded.state()
    assert all(torch.equal(entry, state[name]) for name, entry in stream.state().items())
    first = stream(latents[:, :, 3:4])
    other = vae.stream()
    other.restore(stream.state(), stream.latents)
    other._shape = stream._shape
    assert torch.equal(first, whole[:, :, 9:13])
    for one in (stream, other):
        assert torch.equal(one(latents[:, :, 4:]), whole[:, :, 13:])


def test_a_stream_moves_from_other_layers_to_fused_ones(fused):
    latents = draw(1, 16, 3, 1, 2)
    expected = fused(False).decode(latents)
    for start in (1, 2):
        stream = fused(False).stream()
        stream(latents[:, :, :start])
        fused(True)
        end = stream(latents[:, :, start:])
        assert ((end - expected[:, :, -end.shape[2] :]).norm() / expected.norm()) < 2e-3
