"""The small decoder of TAEHV's layout: what it computes, piece by piece, and in step with the VAE's own."""

from __future__ import annotations

import functools
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.wan.fast_decoder import WIDTHS, FastDecoder, TinyDecoder
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan
from torch import Tensor

from tests.unit.tiny_s2v import HEIGHT, WIDTH, condition, model, noise, track

NARROW = (16, 12, 8, 8)


@functools.lru_cache
def network(widths: tuple[int, ...] = NARROW) -> TinyDecoder:
    torch.manual_seed(0)
    made = TinyDecoder(widths).eval().requires_grad_(False)
    for parameter in made.parameters():  # values that do not die out on the way
        if parameter.ndim > 1:
            parameter *= 2
    made.decoder["22"].bias += 0.5
    return made


@functools.lru_cache
def wan() -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=2).eval().requires_grad_(False))


@pytest.fixture(params=[False, True], ids=["normalised", "raw"])
def fast(request) -> FastDecoder:
    return FastDecoder(network(), "tiny", wan() if request.param else None)


def as_published(state: dict[str, Tensor], latents: Tensor) -> Tensor:
    """Frames of about 0 to 1 [F, 3, H, W] of normalised latents [f, 16, h, w], by the published list of layers, frame
    after frame."""
    stage = ["mem", "mem", "mem", "up", "grow", "conv"]
    kinds = ["limit", "conv", "relu", *stage, *stage, *stage, "relu", "conv"]
    frames = list(latents[:, None])
    for place, kind in enumerate(kinds):

        def conv(x: Tensor, name: str, place: int = place) -> Tensor:
            weight, bias = (state.get(f"decoder.{place}.{name}{leaf}") for leaf in ("weight", "bias"))
            return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

        def remember(x: Tensor, before: Tensor, conv=conv) -> Tensor:
            y = conv(torch.cat((x, before), 1), "conv.0.").relu()
            return (conv(conv(y, "conv.2.").relu(), "conv.4.") + x).relu()

        if kind == "limit":
            frames = [3 * torch.tanh(x / 3) for x in frames]
        elif kind == "mem":
            before = [torch.zeros_like(frames[0]), *frames]
            frames = [remember(x, then) for x, then in zip(frames, before, strict=False)]
        elif kind == "up":
            frames = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in frames]
        elif kind == "grow":
            grown = [conv(x, "conv.").split(x.shape[1], 1) for x in frames]
            frames = [part for parts in grown for part in parts]
        else:
            frames = [x.relu() if kind == "relu" else conv(x, "") for x in frames]
    return torch.cat(frames)


def test_the_layout_is_the_published_one():
    state = TinyDecoder(WIDTHS).state_dict()
    # taew2_1.safetensors: 128 tensors, 11,315,539 values; 64 and 1,470,928 of them are the encoder's.
    assert (len(state), sum(value.numel() for value in state.values())) == (64, 9_844_611)
    assert state["decoder.3.conv.0.weight"].shape == (256, 512, 3, 3)
    assert state["decoder.7.conv.weight"].shape == (256, 256, 1, 1)
    assert state["decoder.13.conv.weight"].shape == (256, 128, 1, 1)
    assert state["decoder.14.weight"].shape == (64, 128, 3, 3)
    assert state["decoder.22.weight"].shape == (3, 64, 3, 3)


def test_it_computes_what_the_published_layers_do(fast):
    latents = noise(1, 16, 4, 3, 5)
    taken = latents if fast._vae is None else wan().denormalise(latents)
    expected = as_published(network().state_dict(), taken[0].transpose(0, 1))[3:] * 2 - 1
    assert expected.std() > 0.1
    decoded = fast.decode(latents)
    assert decoded.dtype == torch.float32 and decoded.shape == (1, 3, 13, 24, 40)
    torch.testing.assert_close(decoded[0].transpose(0, 1), expected.clamp(-1, 1), atol=1e-5, rtol=1e-4)


def test_a_batch_is_decoded_like_its_members(fast):
    latents = noise(2, 16, 3, 2, 2)
    each = torch.cat([fast.decode(one) for one in latents.split(1)])
    torch.testing.assert_close(fast.decode(latents), each, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("split", [[1, 1, 1, 1, 1, 1], [3, 3], [1, 2, 3], [5, 1]])
def test_any_split_gives_the_same_video(fast, split):
    latents = noise(1, 16, 6, 2, 3)
    stream = fast.stream()
    pieces = [stream(piece) for piece in latents.split(split, dim=2)]
    assert [piece.shape[2] for piece in pieces] == [4 * split[0] - 3] + [4 * n for n in split[1:]]
    assert torch.equal(torch.cat(pieces, dim=2), fast.decode(latents))


def test_a_primed_stream_continues_the_video(fast):
    latents = noise(1, 16, 6, 2, 2)
    stream = fast.stream()
    stream.prime(latents[:, :, :2])
    assert stream.started and stream.latents == 2
    assert torch.equal(stream(latents[:, :, 2:]), fast.decode(latents)[:, :, 5:])


@pytest.mark.parametrize("latent", range(4))
def test_a_latent_shows_in_the_same_frames_as_with_the_full_decoder(latent):
    latents = noise(1, 16, 4, 2, 2)
    changed = latents.clone()
    changed[:, :, latent] += 0.5
    first = {}
    for decoder in (wan(), FastDecoder(network(), "tiny")):
        different = (decoder.decode(latents) != decoder.decode(changed)).flatten(3).any(-1).any(1)[0]
        first[type(decoder)] = int(different.nonzero()[0])
        assert different[first[type(decoder)] :][: 4 if latent else 1].all()
    assert set(first.values()) == {max(0, 4 * latent - 3)}


def test_what_is_kept_does_not_grow(fast):
    stream, sizes = fast.stream(), []
    for index in range(5):
        stream(noise(1, 16, 1, 2, 2, seed=index))
        sizes.append(sum(entry.untyped_storage().nbytes() for entry in stream._cache))
    assert len(set(sizes)) == 1 and len(stream._cache) == fast.slots


def test_a_stream_goes_on_from_its_saved_state(fast):
    latents = noise(1, 16, 9, 2, 2)
    stream = fast.stream()
    stream.prime(latents[:, :, :3])
    stream(latents[:, :, 3:6])
    saved = {name: value.contiguous().clone() for name, value in stream.state().items()}
    assert len(saved) == fast.slots
    other = fast.stream()
    other.prime(latents[:, :, :3])
    other.restore(saved, stream.latents)
    assert torch.equal(other(latents[:, :, 6:]), stream(latents[:, :, 6:]))


def test_a_failed_call_leaves_the_stream_usable(fast, monkeypatch):
    latents = noise(1, 16, 4, 2, 2)
    stream = fast.stream()
    start = stream(latents[:, :, :2])
    with monkeypatch.context() as patch:
        last = network().decoder["22"]
        patch.setattr(last, "forward", lambda x: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            stream(latents[:, :, 2:])
    assert torch.equal(torch.cat([start, stream(latents[:, :, 2:])], 2), fast.decode(latents))


def test_black_and_white_have_the_vaes_range():
    made = TinyDecoder(NARROW).requires_grad_(False)
    made.decoder["22"].weight.zero_()
    for level, expected in ((-1.0, -1.0), (0.0, -1.0), (0.5, 0.0), (1.0, 1.0), (2.0, 1.0)):
        made.decoder["22"].bias.fill_(level)
        assert (FastDecoder(made, "flat").decode(noise(1, 16, 1, 2, 2)) == expected).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_and_gives_float32(dtype):
    half = TinyDecoder(NARROW).requires_grad_(False)
    half.load_state_dict(network().state_dict())
    decoded = FastDecoder(half.to(dtype), "half").decode(noise(1, 16, 3, 2, 2))
    assert decoded.dtype == torch.float32
    assert (decoded - FastDecoder(network(), "tiny").decode(noise(1, 16, 3, 2, 2))).abs().mean() < 0.02


CONFIG = SamplingConfig(steps=1, frames_per_clip=24)


def test_a_video_is_made_and_gone_on_with(fast, tmp_path):
    scene = Scene(**condition(), speech=Tracks([track(5)]))

    def passes(state: GenerationState | None = None):
        return generate(model(), fast, scene, CONFIG, 9 + 3 * 12, state=state)

    blocks = list(passes())
    assert [tuple(block.shape) for block in blocks] == [
        (n, 8 * HEIGHT, 8 * WIDTH, 3) for n in (9, 12, 12, 12)
    ]
    assert all(block.float().std() > 1 for block in blocks)
    state = GenerationState(fingerprint="a")
    running = passes(state)
    assert all(torch.equal(*pair) for pair in zip(islice(running, 2), blocks, strict=False))
    state.save(tmp_path / "state")
    running.close()
    rest = list(passes(GenerationState(tmp_path / "state", "a")))
    assert all(torch.equal(*pair) for pair in zip(rest, blocks[2:], strict=True))
