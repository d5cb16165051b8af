"""Portrait and pose in a CONDITIONING, and the latents that they are made of."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.condition import encode_pose, encode_reference, pose_block
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.liveavatar.conditioning import picture_size, read, with_pose, with_reference
from diffusers import AutoencoderKLWan


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=4).eval())


def prompt() -> list:
    return [[torch.randn(1, 5, 8), {"pooled_output": None}]]


def latents(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, frames, 4, 6)


def test_latents_travel_raw_and_come_back_normalised(vae):
    reference, motion, pose = latents(1), latents(19), latents(6)
    positive = prompt()
    dressed = with_pose(with_reference(positive, vae, reference, motion), vae, pose)
    found = read(dressed)
    for sent, raw in ((reference, found.reference), (motion, found.motion), (pose, found.pose)):
        assert not torch.allclose(raw, sent)
        torch.testing.assert_close(vae.normalise(raw), sent, rtol=0, atol=1e-5)
    assert torch.equal(found.context, positive[0][0][0])
    assert found.size == picture_size(dressed) == (32, 48)
    assert dressed[0][1]["pooled_output"] is None


def test_the_prompt_that_came_in_is_not_changed(vae):
    positive = prompt()
    with_pose(with_reference(positive, vae, latents(1), latents(19)), vae, latents(3))
    assert positive[0][1] == {"pooled_output": None}


def test_a_pose_is_optional_and_the_last_portrait_counts(vae):
    once = with_reference(prompt(), vae, latents(1), latents(19))
    last = latents(1)
    twice = read(with_reference(once, vae, last, latents(19)))
    assert twice.pose is None
    torch.testing.assert_close(vae.normalise(twice.reference), last, rtol=0, atol=1e-5)


def test_a_missing_portrait_names_the_node_that_adds_it():
    for values in ({}, {"reference_latents": []}, {"reference_latents": [latents(1)]}):
        with pytest.raises(ValueError, match="LiveAvatar Reference Image"):
            read([[torch.zeros(1, 5, 8), values]])


@pytest.mark.parametrize("parts", [0, 2])
def test_a_prompt_of_several_parts_is_refused(parts):
    with pytest.raises(ValueError, match=f"consists of {parts} parts"):
        read(prompt() * parts)


def test_the_portrait_is_encoded_alone_or_settled(vae):
    image = torch.rand(1, 3, 1, 16, 16) * 2 - 1
    reference, motion = encode_reference(vae, image)
    assert reference.shape[2] == 1 and motion.shape[2] == 19
    assert torch.equal(reference, vae.encode(image))
    settled, history = encode_reference(vae, image, settled=True)
    assert settled.shape[2] == 1 and history.shape[2] == 92
    torch.testing.assert_close(settled, vae.encode(image.expand(-1, -1, 5, -1, -1))[:, :, 1:])


@pytest.mark.parametrize(("frames", "count"), [(1, 12), (45, 12), (46, 24), (93, 24)])
def test_a_pose_video_fills_whole_clips(vae, frames, count):
    video = torch.rand(1, 3, frames, 16, 16) * 2 - 1
    assert encode_pose(vae, video).shape == (1, 16, count, 2, 2)


def test_the_first_pose_is_held_through_the_pre_roll_and_the_last_to_the_end(vae):
    video = torch.rand(1, 3, 10, 16, 16) * 2 - 1
    held = torch.cat((video[:, :, :1].expand(-1, -1, 4, -1, -1), video), 2)
    held = torch.cat((held, video[:, :, -1:].expand(-1, -1, 49 - held.shape[2], -1, -1)), 2)
    torch.testing.assert_close(encode_pose(vae, video), vae.encode(held)[:, :, 1:])


def test_an_interrupt_is_noticed_before_every_clip_of_a_pose_video(vae):
    checks = []
    encode_pose(vae, torch.zeros(1, 3, 100, 16, 16), lambda: checks.append(1))
    assert len(checks) == 3


@pytest.mark.parametrize(
    ("count", "block", "expected"),
    [
        (6, 0, [0, 1, 2]),
        (6, 1, [3, 4, 5]),
        (6, 2, [5, 5, 5]),
        (6, 50, [5, 5, 5]),
        (2, 0, [0, 1, 1]),
        (4, 1, [3] * 3),
    ],
)
def test_the_last_pose_is_held_after_the_pose_video_ends(count, block, expected):
    pose = torch.arange(float(count)).view(1, 1, count, 1, 1)
    assert pose_block(pose, block).flatten().tolist() == expected


NAN, WIDE = latents(1) * float("nan"), torch.randn(1, 16, 19, 4, 8)
SPOILED = {
    "portrait without frames": ({"reference_latents": [latents(1)[:, :, 0]]}, "portrait in the prompt is"),
    "portrait of another VAE": (
        {"reference_latents": [latents(1)[:, :4]]},
        r"portrait in the prompt is \[1, 4,",
    ),
    "two portraits at once": (
        {"reference_latents": [latents(1).expand(2, -1, -1, -1, -1)]},
        "portrait in the",
    ),
    "portrait that is none": ({"reference_latents": ["portrait.png"]}, "portrait in the prompt is str"),
    "history of another size": ({"reference_motion": WIDE}, "history in the prompt is"),
    "pose of another size": ({"control_video": WIDE}, "pose video in the prompt is"),
    "pose without frames": ({"control_video": latents(3)[:, :, 0]}, "pose video in the prompt is"),
    "NaN in the portrait": ({"reference_latents": [NAN]}, "portrait in the prompt holds NaN"),
    "NaN in the history": (
        {"reference_motion": NAN.expand(-1, -1, 19, -1, -1)},
        "history in the prompt holds NaN",
    ),
    "NaN in the pose": ({"control_video": NAN}, "pose video in the prompt holds NaN"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_latents_that_are_none_of_ours_are_refused_in_a_sentence(case):
    changed, said = SPOILED[case]
    values = {"reference_latents": [latents(1)], "reference_motion": latents(19)} | changed
    with pytest.raises(ValueError, match=said):
        read([[torch.zeros(1, 5, 8), values]])


def test_a_prompt_that_is_no_number_is_refused():
    values = {"reference_latents": [latents(1)], "reference_motion": latents(19)}
    with pytest.raises(ValueError, match="prompt holds NaN or infinite values"):
        read([[torch.full((1, 5, 8), float("inf")), values]])
