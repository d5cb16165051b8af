"""The streaming autoencoder on a small random model."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.wan.streaming import to_uint8_frames
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan


@pytest.fixture(scope="module")
def model() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vae(model) -> WanVAE:
    return WanVAE(model)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count_calls(monkeypatch, layer: torch.nn.Module) -> list:
    calls, forward = [], layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    return calls


def pixels(frames: int, size: int = 16, batch: int = 1) -> torch.Tensor:
    return noise(batch, 3, frames, size, size).clamp(-1, 1)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (13, 4)])
def test_encode_agrees_with_the_model_itself(vae, model, frames, latents):
    video = pixels(frames, batch=2)
    encoded = vae.encode(video)
    assert encoded.shape == (2, 16, latents, 2, 2)
    assert torch.allclose(vae.denormalise(encoded), model.encode(video).latent_dist.mode(), atol=1e-5)


def test_decode_agrees_with_the_model_itself(vae, model):
    latents = noise(2, 16, 4, 2, 2)
    decoded = vae.decode(latents)
    assert decoded.shape == (2, 3, 13, 16, 16)
    assert torch.allclose(decoded, model.decode(vae.denormalise(latents)).sample, atol=1e-5)


@pytest.mark.parametrize("split", [[1, 1, 1, 1, 1, 1], [3, 3], [1, 2, 3], [5, 1]])
def test_any_split_gives_the_same_video(vae, split):
    latents = noise(1, 16, 6, 2, 2)
    stream = vae.stream()
    pieces = [stream(piece) for piece in latents.split(split, dim=2)]
    assert [piece.shape[2] for piece in pieces] == [4 * split[0] - 3] + [4 * n for n in split[1:]]
    assert torch.equal(torch.cat(pieces, dim=2), vae.decode(latents))


@pytest.mark.parametrize("before", [0, 1, 2, 4])
def test_a_stream_can_go_back_to_where_it_was(vae, before):
    latents = noise(1, 16, before + 3, 2, 2)
    stream = vae.stream()
    if before:
        stream(latents[:, :, :before])
    snapshot = stream.snapshot()
    expected = stream(latents[:, :, before:])
    for _ in range(2):
        stream.rewind(snapshot)
        assert stream.started == bool(before) and stream.latents == before
        assert torch.equal(stream(latents[:, :, before:]), expected)


@pytest.mark.parametrize("parts", [[1], [2], [4], [7], [12], [3, 1], [1, 6], [7, 2]])
def test_primed_stream_continues_the_video(vae, parts):
    before = sum(parts)
    latents = noise(1, 16, before + 3, 2, 2)
    stream = vae.stream()
    assert not stream.started
    for part in latents[:, :, :before].split(parts, dim=2):
        stream.prime(part)
    assert stream.started and stream.latents == before
    decoded = vae.stream()
    decoded(latents[:, :, :before])
    state, expected = stream.state(), decoded.state()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert torch.equal(stream(latents[:, :, before:]), vae.decode(latents)[:, :, 4 * before - 3 :])


def test_priming_leaves_out_what_only_its_pixels_need(vae, model, monkeypatch):
    up = model.decoder.up_blocks
    layers = [*up[1].resnets, *up[1].upsamplers, *up[2].resnets, *up[2].upsamplers, *up[3].resnets]
    layers.append(model.decoder.conv_out)
    runs = [count_calls(monkeypatch, layer) for layer in layers]
    vae.stream().prime(noise(1, 16, 9, 2, 2))
    assert [len(seen) for seen in runs] == [9, 9, 9, 9, 6, 5, 4, 4, 3, 2, 1, 0]


def test_streams_and_encodes_of_one_model_do_not_disturb_each_other(vae, model):
    first, second = noise(1, 16, 4, 2, 2, seed=2), noise(1, 16, 4, 4, 4, seed=3)
    one, other = vae.stream(), vae.stream()
    seen: tuple[list, list] = ([], [])
    for index in range(4):
        seen[0].append(one(first[:, :, index : index + 1]))
        vae.encode(pixels(5))
        model.clear_cache()
        seen[1].append(other(second[:, :, index : index + 1]))
    assert torch.equal(torch.cat(seen[0], dim=2), vae.decode(first))
    assert torch.equal(torch.cat(seen[1], dim=2), vae.decode(second))


def test_state_of_a_stream_does_not_grow(vae):
    stream = vae.stream()
    sizes = []
    for index in range(6):
        stream(noise(1, 16, 1, 2, 2, seed=index))
        held = [entry for entry in stream._cache if isinstance(entry, torch.Tensor)]
        sizes.append(sum(entry.untyped_storage().nbytes() for entry in held))
    assert sizes[2] == sizes[3] == sizes[4] == sizes[5] > 0


def test_failed_call_leaves_the_stream_usable(vae, model, monkeypatch):
    latents = noise(1, 16, 4, 2, 2)
    stream = vae.stream()
    start = stream(latents[:, :, :2])
    with monkeypatch.context() as patch:
        # Fails in the last layers, after most caches of this latent were replaced.
        patch.setattr(model.decoder.norm_out, "forward", lambda x: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            stream(latents[:, :, 2:])
    joined = torch.cat([start, stream(latents[:, :, 2:])], dim=2)
    assert torch.equal(joined, vae.decode(latents))


def test_other_size_within_a_stream_is_refused(vae):
    stream = vae.stream()
    stream(noise(1, 16, 1, 2, 2))
    with pytest.raises(ValueError, match="start another stream"):
        stream(noise(1, 16, 1, 4, 2))


@pytest.mark.parametrize("shape", [(1, 16, 2, 2), (1, 4, 1, 2, 2), (1, 16, 0, 2, 2)])
def test_wrong_latents_are_refused(vae, shape):
    with pytest.raises(ValueError, match="latents must be"):
        vae.decode(torch.zeros(shape))


@pytest.mark.parametrize("frames", [1, 5, 161])
def test_still_image_equals_the_repeated_frame(vae, frames):
    image = pixels(1, size=8)
    assert torch.equal(vae.encode_still(image, frames), vae.encode(image.expand(-1, -1, frames, -1, -1)))


def test_a_still_image_is_encoded_only_where_something_changes(vae, model, monkeypatch):
    encoder = model.encoder
    runs = [
        count_calls(monkeypatch, layer) for layer in (encoder.conv_in, *encoder.down_blocks, encoder.conv_out)
    ]
    assert vae.encode_still(pixels(1, size=8), 365).shape[2] == 92
    counts = [len(seen) for seen in runs]
    assert counts[:7] == [3, 4, 5, 5, 6, 7, 7]
    assert sorted(counts) == counts and counts[-1] < 40
    vae.encode_still(pixels(1, size=8), 4001)
    assert [len(seen) for seen in runs] == [2 * count for count in counts]


@pytest.mark.parametrize("frames", [0, 2, 4, 7])
def test_other_than_one_plus_4k_frames_are_refused(vae, frames):
    with pytest.raises(ValueError, match="1 \\+ 4k"):
        vae.encode(torch.zeros(1, 3, frames, 16, 16))
    with pytest.raises(ValueError, match="1 \\+ 4k"):
        vae.encode_still(torch.zeros(1, 3, 1, 16, 16), frames)


def test_sides_that_are_no_multiple_of_8_are_refused(vae):
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(torch.zeros(1, 3, 1, 16, 20))


def test_normalising_and_back_is_the_identity_and_uses_the_models_constants(vae, model):
    raw = noise(1, 16, 1, 2, 2)
    assert torch.allclose(vae.denormalise(vae.normalise(raw)), raw, atol=1e-6)
    mean = torch.tensor(model.config.latents_mean)
    assert torch.allclose(vae.denormalise(torch.zeros(1, 16, 1, 1, 1)).flatten(), mean)


def test_bfloat16_model_takes_and_gives_float32():
    torch.manual_seed(0)
    exact = AutoencoderKLWan(base_dim=4).eval()
    half = AutoencoderKLWan(base_dim=4).eval()
    half.load_state_dict(exact.state_dict())
    torch.nn.Module.to(half, torch.bfloat16)
    video = pixels(5)
    encoded = WanVAE(half).encode(video)
    decoded = WanVAE(half).decode(encoded)
    assert encoded.dtype == decoded.dtype == torch.float32
    assert (encoded - WanVAE(exact).encode(video)).abs().mean() < 0.01
    assert (decoded - WanVAE(exact).decode(encoded)).abs().mean() < 0.02


def test_wan_2_2_autoencoder_is_refused():
    with torch.device("meta"):
        other = AutoencoderKLWan(base_dim=4, z_dim=48)
    with pytest.raises(ValueError, match="48 latent channels"):
        WanVAE(other)


def test_weights_on_two_devices_are_refused():
    model = AutoencoderKLWan(base_dim=4)
    model.decoder.conv_out.to("meta")
    with pytest.raises(RuntimeError, match="spread over cpu, meta"):
        WanVAE(model).decode(torch.zeros(1, 16, 1, 1, 1))


def test_frames_are_rounded_to_bytes_in_image_order():
    values = torch.tensor([-1.5, -1.0, 0.0, 0.9999, 1.0, 127.4 / 127.5 - 1])
    video = values.view(1, 1, 2, 1, 3).expand(1, 3, 2, 1, 3)
    frames = to_uint8_frames(video)
    assert frames.dtype == torch.uint8 and frames.shape == (2, 1, 3, 3)
    assert frames[..., 0].flatten().tolist() == [0, 0, 128, 255, 255, 127]


def test_frames_of_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 3, F, H, W\]"):
        to_uint8_frames(torch.zeros(2, 3, 1, 8, 8))
