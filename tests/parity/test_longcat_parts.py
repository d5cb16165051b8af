"""LongCat's schedules, windows, masks and rotations against the recorded reference."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.longcat.config import VERSIONS, SamplingConfig
from avatar.engines.longcat.schedule import Schedule, base_sigmas, guided, schedule
from avatar.engines.longcat.speakers import axis_rotation, fit_masks, token_masks
from avatar.engines.longcat.speech import window_indices
from avatar.engines.parts.wan.rope import RotaryEmbedding, rotate
from avatar.loaders.longcat.boxes import box_masks, default_boxes
from avatar.loaders.longcat.sizes import video_size

from tests.parity.longcat_fixtures import close, file_of, listed, manifest, tensor, transformer, vae

BY_NAME = {f"v{version.name.replace('.', '')}": version for version in VERSIONS.values()}


@pytest.mark.parametrize("case", listed("extra", "scheduler_cases"))
def test_noise_levels(case):
    file, version = file_of("01"), BY_NAME[case["version"]]
    config = SamplingConfig(steps=case["steps"], distilled=case["distill"], shift=case["shift"])
    close(base_sigmas(version, case["steps"], case["distill"]), file, f"{case['tag']}_base")
    levels = schedule(version, config, continuation=True)
    close(levels.sigmas, file, f"{case['tag']}_sigmas")
    close(levels.timesteps, file, f"{case['tag']}_timesteps")


@pytest.mark.parametrize("case", listed("extra", "buckets"))
def test_the_size_for_a_picture(case):
    height, width, name, *expected = case
    assert video_size(name, height, width) == tuple(expected)


@pytest.mark.parametrize("tag", ["50", "a"])
def test_uniform_tail_of_a_continuation(tag):
    file = file_of("01")
    case = next(case for case in manifest()["extra"]["scheduler_cases"] if case["tag"] == f"v10_{tag}")
    config = SamplingConfig(steps=case["steps"], distilled=False, shift=case["shift"], uniform_tail=True)
    levels = schedule(BY_NAME[case["version"]], config, continuation=True)
    close(levels.timesteps, file, f"hf_{tag}_timesteps")
    close(levels.sigmas, file, f"hf_{tag}_sigmas")


def test_euler_steps():
    file = file_of("01")
    case = next(case for case in manifest()["extra"]["scheduler_cases"] if case["tag"] == "v15_distill8")
    levels = Schedule(tensor(file, f"{case['tag']}_timesteps"))
    latents, seen = tensor(file, "step_sample"), []
    for index in range(len(levels)):
        latents = levels.step(latents, tensor(file, f"step_flow_{index}"), index)
        seen.append(latents)
    close(torch.stack(seen), file, "step_out")


def test_guided_flow():
    file = file_of("01")
    flows = (tensor(file, name) for name in ("cfg_cond", "cfg_uncond_text", "cfg_uncond"))
    close(guided(*flows, SamplingConfig(text_guidance=4, audio_guidance=3.5)), file, "cfg_out_4_35")


def test_latents_are_normalised_by_the_shared_autoencoder():
    file = file_of("01")
    raw = tensor(file, "latents_norm_in")
    close(vae().normalise(raw), file, "latents_norm_out")
    close(vae().denormalise(raw), file, "latents_denorm_out")


@pytest.mark.parametrize("case", listed("extra", "windows", "cases"))
def test_windows_around_frames(case):
    count = manifest()["extra"]["windows"]["features"]
    name = f"index_{case['frames']}_{case['stride']}_{case['start']}"
    close(
        window_indices(case["start"] // case["stride"], case["frames"], case["stride"], count),
        file_of("04"),
        name,
    )


@pytest.mark.parametrize("case", listed("extra", "masks"))
def test_masks_of_boxes(case):
    file, (height, width) = file_of("05"), case["target"]
    boxes = [*case["boxes"], *case["others"]]
    if not case["given"]:
        assert [list(box) for box in default_boxes(*case["source"])] == case["boxes"]
    masks = fit_masks(box_masks(boxes, *case["source"]), height, width)
    close(masks, file, f"{case['tag']}_resized")
    close(token_masks(masks, height // 16, width // 16), file, f"{case['tag']}_tokens")


@pytest.mark.parametrize("case", listed("extra", "rope"))
def test_angles_on_the_grid(case):
    file, (frames, rows, columns) = file_of("06"), case["grid"]
    expected = tensor(file, f"angles_{case['tag']}")[:, ::2]
    position, references = case["ref_img_index"], case["num_ref_latents"] or 0
    times = [*([position] * references), *range(frames - references)]
    cos, sin = RotaryEmbedding(2 * expected.shape[1], half_precision=False).grid(
        times, range(rows), range(columns)
    )
    limit = 1e-6 * expected.abs().max().clamp(min=1)
    assert (cos - expected.cos()).abs().max() <= limit
    assert (sin - expected.sin()).abs().max() <= limit


def test_turning():
    file = file_of("06")
    angles = tensor(file, "angles_plain")[:, ::2]
    turned = rotate(tensor(file, "turn_in").transpose(1, 2), (angles.cos(), angles.sin()))
    close(turned.transpose(1, 2), file, "turn_out")
    x = tensor(file, "one_in").transpose(1, 2)
    turned = rotate(x, axis_rotation(tensor(file, "one_pos"), x.shape[-1]))
    close(turned.transpose(1, 2), file, "one_out")


def test_time_embedding():
    file, case = file_of("06"), next(case for case in manifest()["cases"] if case["config"] == "dit_v10")
    embedder = transformer(case["config"], case["weights"]).t_embedder
    with torch.inference_mode():
        # Frequencies differ by a unit in the last place from CPU to CPU, which counts up to 1000 times.
        waves = embedder.sinusoid(tensor(file, "time_in"))
        assert (waves - tensor(file, "time_sinus")).abs().max() <= 1000 * 2**-24
        close(embedder(tensor(file, "time_in")), file, "time_out")
