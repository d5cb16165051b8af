"""The transformer and the block sampler against the reference: condition prefill and rollouts."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.config import BLOCK_FRAMES, BLOCK_LATENTS, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler

from tests.parity.liveavatar_cases import FAMILY, cases, input_tensor, transformer
from tests.parity.reference import assert_close, tensors


def sampler_for(case: dict, reference: torch.Tensor, **options) -> BlockSampler:
    return BlockSampler(
        transformer(),
        SamplingConfig(replace_sink=False, **options),
        context=input_tensor(case["context"]),
        reference=reference,
        motion=input_tensor(case["motion"]),
    )


@pytest.mark.parametrize("case", cases("prefill"))
def test_condition_prefill(case):
    replaced = case["replaced_reference"]
    latent = tensors(FAMILY, replaced["file"])[replaced["tensor"]]
    if replaced["frame"] is not None:
        latent = latent[:, :, replaced["frame"] : replaced["frame"] + 1]
    expected = tensors(FAMILY, case["file"])
    for phase, reference in (("init", input_tensor(case["reference"])), ("replaced", latent)):
        stored = prefilled(sampler_for(case, reference), reference, input_tensor(case["motion"]))
        for entry in (e for e in case["expect"] if e["phase"] == phase):
            assert_close(
                stored[entry["layer"]][entry["what"]], expected[entry["tensor"]], case["max_abs_error"]
            )


def prefilled(sampler: BlockSampler, reference: torch.Tensor, motion: torch.Tensor) -> dict[int, dict]:
    """Unrotated condition keys and values per layer, as the model hands them out."""
    stored = {}

    def store(layer, k, v):
        stored[layer] = {"k": k[0], "v": v[0]}

    model = sampler.model
    rotation = sampler.condition_rotation()
    with torch.inference_mode():
        time = model.encode_time(0.0, reference.device)
        model.prefill(reference, motion, time, sampler.prompts.own, rotation, store)
    return stored


@pytest.mark.parametrize("case", cases("rollout"))
def test_rollout(case):
    sampler = sampler_for(
        case,
        input_tensor(case["reference"]),
        steps=case["steps"],
        shift=case["shift"],
        frames_per_clip=case["latent_frames_per_clip"] * 4,
        sink_distance=case["relative_dist"],
    )
    features = speaker_features(case)
    changes = {change["block"]: change for change in case["before_block"]}
    latents_of: dict[tuple[int, int], torch.Tensor] = {}
    flow_of: dict[tuple[int, int], torch.Tensor] = {}
    for block in range(case["blocks"]):
        if block in changes:
            apply_change(sampler, changes[block], latents_of)
        clip, position = divmod(block, case["latent_frames_per_clip"] // BLOCK_LATENTS)
        first = position * BLOCK_LATENTS
        noise = input_tensor(case["noise"][clip % len(case["noise"])])
        latents = noise[None, :, first : first + BLOCK_LATENTS]
        frames = slice(block * BLOCK_FRAMES, (block + 1) * BLOCK_FRAMES)
        inputs = sampler.prepare_block(features[..., frames], speaker_mask=speaker_mask(case, first))
        for step in range(case["steps"]):
            flow = sampler.predict(inputs, latents, step)
            latents = sampler.schedule.step(latents, flow, step)
            flow_of[block, step], latents_of[block, step] = flow, latents
        sampler.finish_block(latents)

    expected = tensors(FAMILY, case["file"])
    for entry in case["expect"]:
        found = flow_of if entry["what"] == "flow" else latents_of
        parts = [found[entry["block"], step][0] for step in entry["steps"]]
        assert_close(
            torch.stack(parts) if entry["stacked"] else parts[0],
            expected[entry["tensor"]],
            case["max_abs_error"],
        )


def speaker_features(case: dict) -> torch.Tensor:
    """[speakers, layers, dim, frames]"""
    speakers = []
    for audio in case["audio"]:
        track = tensors(FAMILY, audio["file"])[audio["tensor"]][audio["index"]]
        speakers.append(track[..., slice(*audio["frames"])] if audio["frames"] else track)
    return torch.stack(speakers)


def speaker_mask(case: dict, first: int) -> torch.Tensor | None:
    if case["mask"] is None:
        return None
    start = first if case["mask_frames"] == "by_block" else 0
    return tensors(FAMILY, case["file"])[case["mask"]][:, start : start + BLOCK_LATENTS, ..., 0]


def apply_change(sampler: BlockSampler, change: dict, latents_of: dict) -> None:
    reference, motion = change["reference"], change["motion"]
    latent = latents_of[reference["block"], reference["step"]]
    latent = latent[:, :, reference["frame"] : reference["frame"] + 1]
    motion = sampler.motion if motion is None else motion["scale"] * input_tensor(motion["tensor"])
    sampler.set_condition(latent, motion)
