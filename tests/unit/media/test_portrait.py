"""Portraits, pose videos and their sizes."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from avatar.media.portrait import (
    AREAS,
    check_size,
    colours,
    fit_size,
    is_drawn,
    prepare_portrait,
    read_portrait,
    resample_fps,
    resize_frames,
)
from PIL import Image

import tools.pack  # noqa: F401
from tools.demo_media import EXAMPLE


def gradient(height: int, width: int, channels: int = 3) -> torch.Tensor:
    rows = torch.linspace(0, 1, height).view(1, -1, 1, 1)
    columns = torch.linspace(0, 1, width).view(1, 1, -1, 1)
    return ((rows + columns) / 2).expand(1, height, width, channels).clone()


@pytest.mark.parametrize("area", sorted(set(AREAS.values())))
@pytest.mark.parametrize("shape", [(512, 512), (720, 1280), (1280, 720), (6000, 8000), (33, 50), (64, 64)])
def test_every_common_picture_gets_a_size_that_can_be_generated(shape, area):
    height, width = fit_size(*shape, area)
    check_size(height, width)
    assert height * width <= area


def test_sizes_without_an_answer_are_refused():
    with pytest.raises(ValueError, match="at least 4096"):
        fit_size(512, 512, 4000)
    with pytest.raises(ValueError, match="squarer"):
        fit_size(40, 100_000, 8192)


@pytest.mark.parametrize(
    ("height", "width", "nearest"),
    [(400, 720, "704x384"), (385, 704, "704x384"), (0, 10, "64x64"), (96, 64, "64x128")],
)
def test_a_wrong_size_names_the_nearest_good_one(height, width, nearest):
    with pytest.raises(ValueError, match=rf"{width}x{height}.*multiples of 64.*{nearest}"):
        check_size(height, width)
    with pytest.raises(ValueError, match=nearest):
        prepare_portrait(gradient(64, 64), height, width)


@pytest.mark.parametrize("shape", [(32, 32), (100, 60), (60, 100), (131, 97), (64, 2000), (800, 600)])
def test_cover_never_leaves_a_border(shape):
    white = torch.ones(1, *shape, 3)
    for height, width in ((128, 64), (64, 128), (128, 128)):
        out = prepare_portrait(white, height, width)
        assert out.shape == (1, height, width, 3) and out.dtype == torch.float32
        assert out.min() == 1


def test_cover_crops_the_middle_and_keeps_the_aspect_ratio():
    image = torch.zeros(1, 200, 400, 3)
    image[:, 90:110, 190:210] = 1  # a square in the middle
    inside = prepare_portrait(image, 128, 128)[0, ..., 0] > 0.5
    rows, columns = inside.any(dim=1).nonzero().flatten(), inside.any(dim=0).nonzero().flatten()
    assert (rows.min() + rows.max()).item() == (columns.min() + columns.max()).item() == 127
    assert len(rows) == len(columns) == pytest.approx(20 * 128 / 200, abs=1)


def test_an_image_of_the_right_size_stays_as_it_is():
    image = (torch.rand(1, 128, 64, 3, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    for fit in ("cover", "reference"):
        assert torch.equal(prepare_portrait(image, 128, 64, fit), image)


def test_grey_becomes_rgb_and_transparency_becomes_white():
    grey = prepare_portrait(gradient(128, 128, 1), 128, 128)
    assert torch.equal(grey, prepare_portrait(gradient(128, 128), 128, 128))
    clear = torch.zeros(1, 64, 64, 4)
    clear[..., :32, 3] = 1
    out = prepare_portrait(clear, 64, 64)
    assert out[:, :, :30].max() == 0 and out[:, :, 34:].min() == 1


def test_values_beyond_the_range_are_clamped():
    out = prepare_portrait(torch.tensor([-1.0, 0.5, 3.0]).expand(1, 64, 64, 3), 64, 64)
    assert out[0, 0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=1 / 255)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(2, 64, 64, 3), "batch of 2: pick one"),
        (torch.zeros(0, 64, 64, 3), "batch of 0"),
        (torch.zeros(1, 16, 16, 3), "16x16 pixels.*at least 32"),
        (torch.zeros(64, 64, 3), r"not \[64, 64, 3\]"),
        (torch.zeros(1, 64, 64, 2), r"not \[1, 64, 64, 2\]"),
        (torch.full((1, 64, 64, 3), math.nan), "NaN"),
    ],
)
def test_unusable_portraits_are_refused_in_one_sentence(image, said):
    with pytest.raises(ValueError, match=said) as raised:
        prepare_portrait(image, 64, 64)
    assert str(raised.value).count(". ") == 0


def test_frames_of_a_clip_are_treated_alike():
    clip = torch.cat([gradient(90, 150), 1 - gradient(90, 150)])
    out = resize_frames(clip, 64, 128)
    assert out.shape == (2, 64, 128, 3)
    for frame, source in zip(out, clip, strict=True):
        assert torch.equal(frame[None], prepare_portrait(source[None], 64, 128))
    with pytest.raises(ValueError, match="clip"):
        resize_frames(clip[:0], 64, 128)


@pytest.mark.parametrize("source_fps", [12, 24, 29.97, 30, 50, 60])
def test_resampling_by_time_keeps_the_speed(source_fps):
    frames = round(source_fps * 4)
    indices = resample_fps(frames, source_fps)
    assert len(indices) == pytest.approx(100, abs=1)
    for position, index in enumerate(indices):
        assert abs((index + 0.5) / source_fps - (position + 0.5) / 25) <= 0.5 / source_fps + 1e-4


def test_resampling_to_the_same_rate_changes_nothing():
    assert resample_fps(7, 25, 25) == list(range(7))
    assert resample_fps(1, 60) == [0]


def test_a_clip_without_frames_or_rate_is_refused():
    for frames, source_fps in ((0, 25), (5, 0)):
        with pytest.raises(ValueError, match="cannot be brought"):
            resample_fps(frames, source_fps)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_are_three_whatever_the_picture_has(channels):
    assert colours(torch.rand(2, 8, 6, channels)).shape == (2, 8, 6, 3)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(8, 6, 3), "must be images"),
        (torch.rand(1, 8, 6, 2), "must be images"),
        (torch.rand(0, 8, 6, 3), "must be images"),
        (torch.full((1, 8, 6, 3), math.nan), "NaN or infinite pixels"),
        (torch.full((1, 8, 6, 3), math.inf), "NaN or infinite pixels"),
    ],
    ids=["one picture", "two channels", "no pictures", "NaN", "infinite"],
)
def test_pictures_without_colours_are_refused_in_one_sentence(images, said):
    with pytest.raises(ValueError, match=said):
        colours(images)


@pytest.mark.parametrize("name", ["portrait", "portrait_2", "portrait_3", "portrait_large", "two_people"])
def test_the_shipped_portraits_are_known_as_drawn(name):
    pixels = np.asarray(Image.open(EXAMPLE / f"{name}.png").convert("RGB"))
    assert is_drawn(torch.from_numpy(pixels.copy())[None] / 255)


def test_texture_as_photographs_have_it_is_no_drawing():
    pixels = np.asarray(Image.open(EXAMPLE / "portrait.png").convert("RGB")) / 255
    grain = np.random.default_rng(0).normal(0, 0.03, pixels.shape)
    assert not is_drawn(torch.from_numpy(pixels + grain)[None])


def test_a_photograph_taken_sideways_is_read_upright():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # of Orientation: the camera was turned by 90 degrees
    Image.new("RGB", (8, 4), "red").save(file, "JPEG", exif=exif)
    assert read_portrait(file).shape == (1, 8, 4, 3)


def test_transparency_is_read_too(tmp_path):
    Image.new("RGBA", (8, 4), (255, 0, 0, 51)).save(tmp_path / "a.png")
    assert read_portrait(tmp_path / "a.png")[0, 0, 0].tolist() == pytest.approx([1, 0, 0, 0.2])


def test_a_picture_that_breaks_off_is_named_in_one_sentence():
    whole = (EXAMPLE / "portrait.png").read_bytes()
    with pytest.raises(ValueError, match="Choose another portrait"):
        read_portrait(io.BytesIO(whole[: len(whole) // 2]))
