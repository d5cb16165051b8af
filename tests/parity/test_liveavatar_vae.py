"""The video autoencoder against the reference: encoding, full decoding and streamed decoding."""

from __future__ import annotations

import functools

import pytest
import torch
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.vae import load_vae

from tests.parity.liveavatar_cases import FAMILY, cases
from tests.parity.reference import assert_close, read_json, reference_dir, tensors


@functools.lru_cache(maxsize=1)
def vae() -> WanVAE:
    """The set's autoencoder in float32."""
    path = reference_dir(FAMILY) / read_json(FAMILY, "cases.json")["files"]["vae"]
    if not path.is_file():
        pytest.skip(f"the reference set has no {FAMILY}/{path.name}")
    return WanVAE(load_vae(path, torch.float32))


def decode_inputs(case: dict) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Latents, expected pixels, number of priming latents, latents per block."""
    stored = tensors(FAMILY, case["file"])
    stream = case["stream"]
    latents, pixels = stored[case["input"]].unsqueeze(0), stored[case["tensor"]].unsqueeze(0)
    return latents, pixels, stream["prime_latents"], stream["block_latents"]


@pytest.mark.parametrize("case", cases("vae_encode"))
def test_encoding(case):
    stored = tensors(FAMILY, case["file"])
    pixels = stored[case["input"]][:, : case["frames"]] * case["input_scale"] + case["input_offset"]
    assert_close(vae().encode(pixels.unsqueeze(0))[0], stored[case["tensor"]], case["max_abs_error"])


@pytest.mark.parametrize("case", cases("vae_decode"))
def test_full_decoding(case):
    latents, expected, _, _ = decode_inputs(case)
    decoded = vae().decode(latents)
    assert_close(decoded, expected, case["max_abs_error"])
    low, high = case["clamp"]
    assert low <= decoded.min() and decoded.max() <= high


@pytest.mark.parametrize("case", cases("vae_decode"))
def test_streamed_decoding_equals_full_decoding(case):
    latents, expected, prime, block = decode_inputs(case)
    stream = vae().stream()
    pieces = [stream(latents[:, :, :prime])]
    pieces += [stream(piece) for piece in latents[:, :, prime:].split(block, dim=2)]
    joined = torch.cat(pieces, dim=2)
    assert_close(joined, expected, case["max_abs_error"])
    assert torch.equal(joined, vae().decode(latents))


@pytest.mark.parametrize("case", cases("vae_decode"))
def test_second_request_starts_clean_after_a_primed_first(case):
    latents, expected, prime, block = decode_inputs(case)
    blocks = latents[:, :, prime:].split(block, dim=2)
    wanted = expected[:, :, -4 * (latents.shape[2] - prime) :]
    for _request in range(2):
        stream = vae().stream()
        stream.prime(latents[:, :, :prime])
        assert_close(torch.cat([stream(piece) for piece in blocks], dim=2), wanted, case["max_abs_error"])
