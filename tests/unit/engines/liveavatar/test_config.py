"""Settings and architecture: what is accepted, and what is said about the rest."""

from __future__ import annotations

import pytest
from avatar.engines.liveavatar.config import S2VConfig, SamplingConfig

from tools.tiny_checkpoint import transformer_config

PUBLISHED_KEYS = transformer_config(text_dim=8, audio_dim=8)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("steps", 0, "steps is 0; choose 1 to 50"),
        ("steps", 51, "steps is 51"),
        ("frames_per_clip", 0, "frames_per_clip is 0; it must be a multiple of 12"),
        ("frames_per_clip", 80, "frames_per_clip is 80; it must be a multiple of 12"),
        ("frames_per_clip", -12, "multiple of 12"),
        ("sink_distance", 3, "sink_distance is 3; choose 4 to 30"),
        ("sink_distance", 31, "sink_distance is 31"),
        ("shift", 0.0, "shift is 0.0; it must be greater than 0"),
        ("shift", -3.0, "shift is -3.0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, said):
    with pytest.raises(ValueError, match=said):
        SamplingConfig(**{setting: value})


def test_of_a_single_step_the_last_one_cannot_be_left_out():
    assert [SamplingConfig(steps=4, skip_last_step=skipped).forwards for skipped in (False, True)] == [4, 3]
    with pytest.raises(ValueError, match="Choose 2 steps or more, or keep the last one"):
        SamplingConfig(steps=1, skip_last_step=True)


@pytest.mark.parametrize(("frames", "latents", "blocks"), [(12, 3, 1), (36, 9, 3), (48, 12, 4), (96, 24, 8)])
def test_a_clip_is_a_whole_number_of_blocks(frames, latents, blocks):
    config = SamplingConfig(frames_per_clip=frames)
    assert (config.clip_latents, config.clip_blocks) == (latents, blocks)


def test_a_checkpoints_config_is_read_and_defaults_to_the_published_size():
    config = S2VConfig.from_dict(PUBLISHED_KEYS)
    assert (config.dim, config.num_layers, config.head_dim) == (128, 5, 128)
    assert config.audio_inject_layers == (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
    published = S2VConfig.from_dict({"model_type": "s2v"})
    assert (published.dim, published.num_layers, published.head_dim) == (5120, 40, 128)


def test_a_tuple_is_as_good_as_a_list():
    values = {**PUBLISHED_KEYS, "patch_size": (1, 2, 2)}
    assert S2VConfig.from_dict(values) == S2VConfig.from_dict(PUBLISHED_KEYS)


def test_another_kind_of_wan_model_is_named():
    with pytest.raises(ValueError, match=r"Wan 't2v' model.*needs the speech-to-video one"):
        S2VConfig.from_dict({**PUBLISHED_KEYS, "model_type": "t2v"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_size", [1, 4, 4]),
        ("enable_framepack", False),
        ("enable_motioner", True),
        ("enable_adain", False),
        ("adain_mode", "attn"),
        ("zero_timestep", False),
        ("qk_norm", False),
        ("cross_attn_norm", False),
    ],
)
def test_another_architecture_is_refused_by_its_key(key, value):
    with pytest.raises(ValueError, match=rf"config has {key}=.*LiveAvatar supports .* only"):
        S2VConfig.from_dict({**PUBLISHED_KEYS, key: value})
