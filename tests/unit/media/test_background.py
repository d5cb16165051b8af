"""Frames over another ground."""

from __future__ import annotations

import pytest
import torch
from avatar.media.background import colour_of, mask_matte, model_matte, put_behind
from avatar.media.portrait import fill

import tools.pack  # noqa: F401

FRAMES = torch.full((3, 8, 8, 3), 200, dtype=torch.uint8)


def test_a_colour_is_read_with_and_without_its_sign():
    assert colour_of("#ff8000").tolist() == pytest.approx([1, 128 / 255, 0])
    assert torch.equal(colour_of(" 00FF00"), torch.tensor([0.0, 1, 0]))


@pytest.mark.parametrize("text", ["", "green", "#12345", "#1234567", "<b>", "#gggggg"])
def test_another_colour_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="#00b140"):
        colour_of(text)


def test_the_ground_shows_where_the_matte_is_low_and_mixes_at_its_edge():
    matte = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1).expand(3, 8, 8)
    shown = put_behind(FRAMES, matte, torch.tensor([1.0, 0.0, 0.0]))
    assert shown.dtype == torch.uint8
    assert [frame[0, 0].tolist() for frame in shown] == [[255, 0, 0], [228, 100, 100], [200, 200, 200]]


def test_one_mask_serves_all_frames_and_is_brought_to_their_size():
    mask = torch.zeros(2, 2)
    mask[:, 0] = 1
    matte = mask_matte(mask, 8, 8)(FRAMES, 100)
    assert matte.shape == (3, 8, 8) and (matte[:, :, :2] == 1).all() and (matte[:, :, 6:] == 0).all()


def test_several_masks_serve_their_frames_and_the_last_one_those_behind():
    matte = mask_matte(torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1).expand(3, 8, 8), 8, 8)
    assert matte(FRAMES, 0)[:, 0, 0].tolist() == [0, 0.25, 1]
    assert matte(FRAMES, 1)[:, 0, 0].tolist() == [0.25, 1, 1]
    assert matte(FRAMES, 50)[:, 0, 0].tolist() == [1, 1, 1]


def test_a_model_sees_every_frame_by_itself():
    seen = []

    def encode(picture: torch.Tensor) -> torch.Tensor:
        seen.append(picture.shape)
        return picture[..., 0]

    assert torch.allclose(model_matte(encode)(FRAMES, 0), torch.full((3, 8, 8), 200 / 255))
    assert seen == [(1, 8, 8, 3)] * 3


@pytest.mark.parametrize(
    ("mask", "said"), [(torch.ones(4, 8), "4, the video|8x4"), (torch.full((8, 8), float("nan")), "numbers")]
)
def test_a_mask_of_another_picture_is_refused(mask, said):
    with pytest.raises(ValueError, match=said):
        mask_matte(mask, 8, 8)


def test_a_picture_fills_the_frame_and_a_batch_is_refused():
    picture = torch.zeros(1, 10, 30, 3)
    picture[:, :, 10:20] = 1
    assert fill(picture, 8, 8).min() > 0.9
    with pytest.raises(ValueError, match="Pick one picture"):
        fill(picture.expand(2, -1, -1, -1), 8, 8)
