"""Whole LongCat runs of two segments against the recorded reference."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.longcat.config import SamplingConfig
from avatar.engines.longcat.pipeline import Scene, Segments
from avatar.engines.longcat.speakers import fit_masks
from avatar.engines.longcat.speech import KnownFeatures
from avatar.loaders.longcat.lora import apply_longcat_lora, read_longcat_lora
from avatar.loaders.longcat.picture import fit_picture

from tests.parity.longcat_fixtures import FAMILY, close, fresh_transformer, listed, tensor, vae
from tests.parity.reference import reference_dir, tensors

CPU = torch.device("cpu")


def padded(run, name):
    """States of a prompt with zeros for its padding, as a text encoder of the host gives them."""
    return tensor(run["file"], name)[0, 0] * tensor(run["file"], f"{name}_mask")[0][:, None]


def network(run):
    length = tensor(run["file"], "prompt").shape[2]
    model = fresh_transformer(run["config"], run["weights"], model_max_length=length)
    if run["lora"]:
        apply_longcat_lora(model, read_longcat_lora(reference_dir(FAMILY) / run["lora"]))
    return model


def segments(run):
    file, model = run["file"], network(run)
    assert model.config.version.stride == run["audio_stride"]
    assert model.config.version.old_latents == run["use_vcond"]
    voices = [tensor(file, f"features_{number + 1}") for number in range(run["speakers"])]
    picture = None
    if "image" in tensors(FAMILY, file):
        pixels = fit_picture(tensor(file, "image").to(torch.uint8), run["height"], run["width"])
        close(pixels, file, "image_tensor")
        picture = vae().encode(pixels[:, :, None])
    masks = None
    if run["speakers"] > 1:
        masks = fit_masks(tensor(file, "masks"), run["height"], run["width"])
    scene = Scene(
        padded(run, "prompt"),
        KnownFeatures(torch.stack(voices)),
        run["height"],
        run["width"],
        padded(run, "negative"),
        picture,
        masks=masks,
    )
    config = SamplingConfig(
        steps=run["steps"],
        distilled=run["distill"],
        shift=run["shift"],
        text_guidance=run["text_guidance_scale"],
        audio_guidance=run["audio_guidance_scale"],
        frames=run["num_frames"],
        overlap=run["num_cond_frames"],
        reference_position=run["ref_img_index"],
        skip_range=run["mask_frame_range"],
        uniform_tail=run["enhance_hf_segment_2"],
    )
    return Segments(
        model, vae(), scene, config, CPU, noise=lambda number, shape: tensor(file, f"noise_{number + 1}")
    )


def watched(made):
    """Latents after each step, the first step's flow and timesteps, and what the segment gave."""
    denoise, flow = made.sampler.denoise, made.sampler.flow
    steps, flows, times = [], [], []

    def step(noise, prepared):
        for latents in denoise(noise, prepared):
            steps.append(latents)
            yield latents

    def seen(latents, timestep, prepared):
        times.append(timestep)
        flows.append(flow(latents, timestep, prepared))
        return flows[-1]

    made.sampler.denoise, made.sampler.flow = step, seen
    result = made.sample()
    made.sampler.denoise, made.sampler.flow = denoise, flow
    return torch.stack(steps), flows[0], torch.stack(times), result


@pytest.mark.parametrize("run", listed("extra", "runs"))
def test_two_segments(run):
    file = run["file"]
    made = segments(run)
    steps, flow, times, (latents, before) = watched(made)
    assert before is None
    close(steps, file, "steps_1")
    close(-flow, file, "flow0_1")
    close(times, file, "timesteps_1")
    close(latents, file, "latents_1")
    frames = [frame for piece in made.decode(latents, None, vae()) for frame in piece]
    assert len(frames) == run["num_frames"]
    pixels = vae().decode(latents)
    for number in range(run["num_frames"]):  # what is handed out is what the latents decode to, rounded
        assert (pixels[0, :, number].permute(1, 2, 0) * 127.5 + 127.5 - frames[number]).abs().max() <= 0.501
    chosen = (pixels[0, :, run["saved_frames"]].permute(1, 2, 3, 0) + 1) / 2
    close(chosen, file, "frames_1")

    made.frames = tensor(file, "tail_u8").to(torch.uint8)
    steps, flow, times, (latents, before) = watched(made)
    close(before, file, "tail_latents")
    close(steps, file, "steps_2")
    close(-flow, file, "flow0_2")
    close(times, file, "timesteps_2")
    close(torch.cat((before, latents), 2), file, "latents_2")
    pixels = vae().decode(torch.cat((before, latents), 2))
    close((pixels[0, :, run["saved_frames"]].permute(1, 2, 3, 0) + 1) / 2, file, "frames_2")
    frames = torch.cat(list(made.decode(latents, before, vae())))
    new = pixels[0, :, run["num_cond_frames"] :].permute(1, 2, 3, 0) * 127.5 + 127.5
    assert frames.shape == new.shape
    assert (new - frames).abs().max() <= 0.501
