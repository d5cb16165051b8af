"""Whole runs against the reference's: picture and features in, latents and frames out.

The reference has three ways to run: streaming over several processes (TPP), and on one device with offline or
online decoding. The first is what the engine's pipeline does; the deferred decoding of the other two, with its
window of re-encoded frames, is put together here from the engine's parts.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from avatar.engines.liveavatar.condition import (
    PRE_ROLL_FRAMES,
    PRIME_LATENTS,
    SETTLED_FRAMES,
    encode_reference,
)
from avatar.engines.liveavatar.config import MOTION_FRAMES, SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.speech_timing import block_features, feature_track
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.parts.wan.geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE
from avatar.engines.parts.wan.schedule import clip_noise
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.vae import load_vae
from avatar.media.portrait import fit_size, prepare_portrait

from tests.parity.liveavatar_cases import FAMILY, transformer
from tests.parity.reference import assert_close, read_json, reference_dir, tensors

SEED = 420  # the reference's own default
LATENT_TOLERANCE, FRAME_TOLERANCE = 1e-4, 2e-4


def fixtures() -> dict[str, torch.Tensor]:
    return tensors(FAMILY, "e2e.safetensors")


@functools.lru_cache(maxsize=1)
def vae() -> WanVAE:
    file = read_json(FAMILY, "cases.json")["files"]["vae"]
    return WanVAE(load_vae(reference_dir(FAMILY) / file, dtype=torch.float32))


def video_size() -> tuple[int, int]:
    """Height and width of the runs in pixels."""
    height, width = fixtures()["tpp.latents"].shape[-2:]
    return height * SPATIAL_STRIDE, width * SPATIAL_STRIDE


def portrait() -> torch.Tensor:
    image = fixtures()["image"]
    height, width = video_size()
    assert fit_size(image.shape[0], image.shape[1], height * width) == (height, width)
    prepared = prepare_portrait(image[None] / 255, height, width, fit="reference")
    return prepared.permute(0, 3, 1, 2)[:, :, None] * 2 - 1


def speech_track() -> torch.Tensor:
    found = fixtures()
    return feature_track(found["hidden_A"][..., None] * found["hidden_B"])


def config(**options) -> SamplingConfig:
    facts = read_json(FAMILY, "manifest.json")["pipeline"]
    return SamplingConfig(
        steps=facts["steps"],
        shift=facts["scheduler_shift"],
        seed=SEED,
        frames_per_clip=facts["infer_frames"],
        **options,
    )


def clip_count() -> int:
    return fixtures()["tpp.latents"].shape[1] // config().clip_latents


def assert_frames(video: torch.Tensor, name: str) -> None:
    """``video`` [3, frames, H, W] in [-1, 1]; the fixture holds every 6th frame and every 4th pixel."""
    shape = read_json(FAMILY, "manifest.json")["extra"]["item13"][name]["video_shape"]
    assert list(video.shape) == shape
    assert_close(video[:, ::6, ::4, ::4], fixtures()[f"{name}.frames"], FRAME_TOLERANCE)


def test_noise_comes_from_the_same_generator():
    for clip, head in enumerate(fixtures()["noise_head"]):
        size = fixtures()["tpp.latents"].shape
        noise = clip_noise((size[0], config().clip_latents, *size[2:]), SEED + clip)
        assert_close(noise.flatten()[: len(head)], head, 0.0)


def test_streaming_run():
    reference, motion = encode_reference(vae(), portrait())
    sampler = BlockSampler(
        transformer(), config(), context=fixtures()["context"], reference=reference, motion=motion
    )
    decoder = vae().stream()
    decoder.prime(motion[:, :, :PRIME_LATENTS])
    latents, frames = [], []
    for block in range(clip_count() * config().clip_blocks):
        latents.append(sampler.next_block(block_features([speech_track()], block)))
        frames.append(decoder(latents[-1]))
    assert_close(torch.cat(latents, 2)[0], fixtures()["tpp.latents"], LATENT_TOLERANCE)
    video = torch.cat(frames, 2)[0, :, PRE_ROLL_FRAMES:]
    assert_frames(video, "tpp")

    scene = Scene(fixtures()["context"], reference, motion, Tracks([speech_track()]))
    generated = torch.cat(list(generate(transformer(), vae(), scene, config(), frames=video.shape[1])))
    expected = ((video + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
    assert torch.equal(generated, expected)


@pytest.mark.parametrize("counts", [(2, 2), (1, 1, 1, 1)])
def test_streaming_run_in_stages(counts, monkeypatch):
    """The reference's own way to run on several GPUs, as the engine does it; here all on one device."""
    if sum(counts) != config().steps:
        pytest.skip("the fixture has other steps")
    reference, motion = encode_reference(vae(), portrait())
    scene = Scene(fixtures()["context"], reference, motion, Tracks([speech_track()]))
    made, ends = [], [sum(counts[: index + 1]) for index in range(len(counts))]
    finish = BlockSampler.finish_block

    def watched(self, latents):
        finish(self, latents)
        if self.steps[-1] == ends[-1] - 1:
            made.append(latents)

    monkeypatch.setattr(BlockSampler, "finish_block", watched)
    steps = [range(end - count, end) for count, end in zip(counts, ends, strict=True)]
    stages = [Stage(transformer(), part, reference.device) for part in steps]
    frames = fixtures()["tpp.latents"].shape[1] * TEMPORAL_STRIDE - PRE_ROLL_FRAMES
    generated = torch.cat(list(generate_in_stages(stages, [vae()], scene, config(), frames)))
    assert_close(torch.cat(made, 2)[0], fixtures()["tpp.latents"], LATENT_TOLERANCE)
    video = generated.permute(3, 0, 1, 2) / 127.5 - 1
    assert_close(video[:, ::6, ::4, ::4], fixtures()["tpp.frames"], 1 / 127.5)


class DeferredDecoding:
    """The single-device paths: whole clips are decoded behind a motion history of re-encoded frames."""

    def __init__(self, image: torch.Tensor, motion: torch.Tensor) -> None:
        self.motion = motion
        self.window = image.expand(-1, -1, SETTLED_FRAMES, -1, -1)
        self.video: list[torch.Tensor] = []

    def decode(self, latents: torch.Tensor) -> None:
        pixels = vae().decode(torch.cat((self.motion, latents), 2))[:, :, -config().frames_per_clip :]
        self.video.append(pixels if self.video else pixels[:, :, PRE_ROLL_FRAMES:])

    def remember(self) -> None:
        newest = self.video[-1][:, :, -MOTION_FRAMES:]
        self.window = torch.cat((self.window[:, :, newest.shape[2] :], newest), 2)
        self.motion = vae().encode(self.window)


def next_clip(sampler: BlockSampler) -> torch.Tensor:
    blocks = range(sampler.block_index, sampler.block_index + config().clip_blocks)
    return torch.cat([sampler.next_block(block_features([speech_track()], block)) for block in blocks], 2)


def test_single_device_runs():
    if clip_count() != 2:
        pytest.skip("the single-device fixtures are compared for two clips")
    image = portrait()
    reference, motion = encode_reference(vae(), image, settled=True)
    context = fixtures()["context"]
    deferred = DeferredDecoding(image, motion)
    samplers, second_clip = {}, {}
    for name in ("offline", "online"):
        options = config(replace_sink=name == "online")
        samplers[name] = BlockSampler(
            transformer(), options, context=context, reference=reference, motion=motion
        )
        first_clip = next_clip(samplers[name])
    deferred.decode(first_clip)
    deferred.remember()
    # Online, the second clip is conditioned on the new history together with the new reference.
    samplers["online"].motion = deferred.motion
    for name, sampler in samplers.items():
        second_clip[name] = next_clip(sampler)
        run = copy.copy(deferred)
        run.video = list(deferred.video)
        run.decode(second_clip[name])
        assert_frames(torch.cat(run.video, 2)[0], name)
    offline = torch.cat((first_clip, second_clip["offline"]), 2)
    assert_close(offline[0], fixtures()["offline.latents"], LATENT_TOLERANCE)
    assert_close(second_clip["online"][0], fixtures()["online.latents"], LATENT_TOLERANCE)
