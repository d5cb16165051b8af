"""Parts of the engine against the reference: rotations, frame packing, audio, pose, scheduler, LoRA'd flow."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.config import BLOCK_FRAMES, BLOCK_LATENTS, MOTION_FRAMES, SamplingConfig
from avatar.engines.liveavatar.framepack import motion_rotation
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_timing import feature_track, frame_features, frame_indices
from avatar.engines.parts.wan.rope import RotaryEmbedding, concatenate
from avatar.engines.parts.wan.schedule import Schedule

from tests.parity.liveavatar_cases import FAMILY, input_tensor, transformer
from tests.parity.reference import assert_close, read_json, tensors

DEVICE = torch.device("cpu")


def extra(item: str) -> dict:
    found = read_json(FAMILY, "manifest.json").get("extra", {}).get(item)
    if found is None:
        pytest.skip(f"the reference set has no {item}")
    return found


def pipeline() -> dict:
    return read_json(FAMILY, "manifest.json")["pipeline"]


def patch_grid() -> tuple[range, range]:
    height, width = pipeline()["latent_hw"]
    return range(height // 2), range(width // 2)


def sampler(**options) -> BlockSampler:
    return BlockSampler(
        transformer(),
        SamplingConfig(replace_sink=False, **options),
        context=input_tensor("context"),
        reference=input_tensor("ref_latent"),
        motion=input_tensor("motion_latents"),
    )


def test_rotations_of_noisy_tokens_at_any_frame():
    expected = {k: v for k, v in tensors(FAMILY, "rope.safetensors").items() if k.startswith("noisy_f")}
    rope = RotaryEmbedding(transformer().config.head_dim)
    for name, table in expected.items():
        start = int(name.removeprefix("noisy_f"))
        cos, sin = rope.grid(range(start, start + BLOCK_LATENTS), *patch_grid())
        assert_close(torch.stack((cos, sin), -1), table, 0.0)


def test_rotations_without_rounding():
    expected = tensors(FAMILY, "rope.safetensors")["table_rows_0_3_1500"]
    rope = RotaryEmbedding(transformer().config.head_dim, half_precision=False)
    time_pairs, _, _ = rope.axis_pairs
    cos, sin = rope.grid((0, 3, 1500), (0,), (0,))
    assert_close(torch.stack((cos, sin), -1)[:, :time_pairs], expected[:, :time_pairs], 1e-7)


def test_rotations_of_the_condition_follow_the_video():
    expected = {k: v for k, v in tensors(FAMILY, "rope.safetensors").items() if k.startswith("cond_f")}
    rope = RotaryEmbedding(transformer().config.head_dim)
    rows, columns = patch_grid()
    for name, table in expected.items():
        start, distance = (int(part) for part in name.removeprefix("cond_f").split("_rd"))
        time = sampler(sink_distance=distance).reference_time(start, step=0)
        cos, sin = concatenate(
            [
                rope.grid((time,), rows, columns),
                motion_rotation(rope, len(rows), len(columns), DEVICE),
            ]
        )
        assert_close(torch.stack((cos, sin), -1), table, 0.0)


def test_motion_tokens_and_their_rotations():
    expected = tensors(FAMILY, "rope.safetensors")
    model, motion = transformer(), input_tensor("motion_latents")
    with torch.inference_mode():
        assert_close(model.frame_packer(motion, model.dtype), expected["framepack_tokens"], 2e-5)
        assert_close(
            model.frame_packer(motion[:, :, :5], model.dtype), expected["framepack_tokens_short"], 2e-5
        )
    rope = RotaryEmbedding(model.config.head_dim)
    rows, columns = patch_grid()
    cos, sin = motion_rotation(rope, len(rows), len(columns), DEVICE)
    assert_close(torch.stack((cos, sin), -1), expected["framepack_rope"], 0.0)


def test_audio_buckets():
    fixtures = tensors(FAMILY, "audio.safetensors")
    for length, facts in extra("item2").items():
        hidden = fixtures[f"hidden_T{length}"]
        track = feature_track(hidden)
        assert track.shape[1] == facts["len30"]
        assert_close(track, fixtures[f"feat30_T{length}"], 1e-6)
        assert torch.equal(frame_indices(0, facts["frames"]), fixtures[f"idx_T{length}"])
        features = frame_features(track, 0, facts["frames"])
        assert_close(features[None], fixtures[f"audio_emb_T{length}"], 1e-6)
        assert not features[..., facts["first_zero_frame"] :].any()


def test_causal_audio_encoder():
    expected = tensors(FAMILY, "audio.safetensors")
    features = input_tensor("audio")[..., :BLOCK_FRAMES]
    encoder = transformer().casual_audio_encoder
    with torch.inference_mode():
        before = features[..., :1].expand(-1, -1, -1, MOTION_FRAMES)
        overall, local = encoder(torch.cat((before, features), -1), torch.float32)
        assert_close(overall.unsqueeze(2), expected["enc_global"], 1e-5)
        assert_close(local[:, 16:22], expected["enc_local_16_21"], 1e-5)
        block_overall, block_local = encoder.encode_block(features, torch.float32)
    assert_close(block_overall, overall[:, -BLOCK_LATENTS:], 1e-5)
    assert_close(block_local, local[:, -BLOCK_LATENTS:], 1e-5)


def test_schedule_of_other_step_counts():
    for steps, facts in extra("item7").items():
        schedule = Schedule(int(steps), pipeline()["scheduler_shift"])
        assert_close(schedule.timesteps, torch.tensor(facts["timesteps"]), 1e-6)
        assert_close(schedule.sigmas, torch.tensor(facts["sigmas"]), 1e-6)


def test_euler_steps_in_float32_and_bfloat16():
    fixtures = tensors(FAMILY, "sampler.safetensors")
    schedule = Schedule(len(fixtures["timesteps"]), pipeline()["scheduler_shift"])
    for dtype, name, tolerance in (
        (torch.float32, "latents_fp32", 1e-6),
        (torch.bfloat16, "latents_bf16", 0.0),
    ):
        latents = fixtures["x0"].to(dtype)
        for step, flow in enumerate(fixtures["model_outputs"]):
            latents = schedule.step(latents, flow.to(dtype), step)
            assert_close(latents, fixtures[name][step], tolerance)


def test_pose_condition():
    fixtures = tensors(FAMILY, "pose.safetensors")
    run = sampler()
    inputs = run.prepare_block(input_tensor("audio")[..., :BLOCK_FRAMES], pose=fixtures["cond_states"])
    latents = input_tensor("clip_noise_0")[None, :, :BLOCK_LATENTS]
    flows = []
    for step in range(len(run.schedule)):
        flows.append(run.predict(inputs, latents, step))
        latents = run.schedule.step(latents, flows[-1], step)
    assert_close(torch.stack((flows[0][0], flows[3][0])), fixtures["flow_step0_3"], 2e-5)
    assert_close(latents[0], fixtures["latent_final"], 2e-5)
