"""The reference picture, brought to the size of a video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from avatar.evaluation.readers.portrait import covered
from avatar.evaluation.subjects import read_picture
from PIL import ExifTags, Image


def test_a_strip_is_cut_before_it_is_enlarged():
    """Enlarged whole it would take 16 GB."""
    strip = torch.randint(0, 256, (1, 20_000, 3), dtype=torch.uint8)
    filled = covered(strip, 256, 256)
    assert filled.shape == (256, 256, 3)
    assert torch.equal(filled, covered(strip[:, 9_990:10_010], 256, 256))


def test_what_is_cut_off_does_not_show():
    picture = torch.randint(0, 256, (40, 90, 3), dtype=torch.uint8)
    whole = F.interpolate(picture.permute(2, 0, 1)[None].float(), (80, 180), mode="bicubic", antialias=True)[
        0
    ]
    expected = whole.clamp(0, 255)[:, :, 50:130].round().to(torch.uint8).permute(1, 2, 0)
    assert torch.equal(covered(picture, 80, 80), expected)


def test_a_photograph_is_read_upright(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "telephone.jpg", exif=turned)
    assert read_picture(tmp_path / "telephone.jpg").shape == (30, 20, 3)
