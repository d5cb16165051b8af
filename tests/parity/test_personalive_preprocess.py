"""Pictures, crops, interpolation and distances against the recorded reference."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from avatar.engines.parts.face.keypoints import ramp
from avatar.engines.personalive.keyframes import KeyframeMemory
from avatar.engines.personalive.preprocess import clip_pixels, crop_resize, lanczos, resize, to_uint8

from tests.parity.personalive_fixtures import as_pil, blow_up, fixture, near, thinned, unit
from tests.parity.personalive_offline import landmark_box


def pixels(image):
    """[1, 3, H, W] in [0, 1] back to uint8 [H, W, 3]."""
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0)


def source():
    t, _ = fixture("10")
    return t, as_pil(t["resize_src"].to(torch.uint8))


def test_lanczos():
    t, image = source()
    for name, expected in t.items():
        if match := re.fullmatch(r"vae_pre_(\d+)_u8", name):
            ours = pixels(lanczos(image, int(match[1]), int(match[1])))
            assert torch.equal(thinned(ours, expected), expected.to(torch.uint8)), name


def test_transparent_pictures_are_resized_before_they_become_rgb():
    t, image = source()
    rows, columns = np.indices(image.size[::-1])
    rgba = image.convert("RGBA")
    rgba.putalpha(as_pil(torch.from_numpy(((rows + columns) % 256).astype(np.uint8))))
    assert torch.equal(pixels(lanczos(rgba, 128, 128)), t["vae_pre_rgba_128"].to(torch.uint8))


def test_clip_input():
    t, image = source()
    near(thinned(clip_pixels(image), t["clip_live_s4"]), t["clip_live_s4"], 0, atol=1e-5)
    squashed = clip_pixels(image, squash=True)
    near(thinned(squashed, t["clip_offline_s4"]), t["clip_offline_s4"], 0, atol=1e-5)


def test_live_frames_are_resized_without_antialiasing():
    t, _ = source()
    frames = unit(blow_up(t["live_low"], 512)) * 2 - 1
    near((resize(frames, 256) / 2 + 0.5)[:, :, 1::4, 2::4], t["live_256_s4"], 0, atol=1e-5)
    odd = unit(t["live_odd_low"].to(torch.uint8)) * 2 - 1
    near(thinned(resize(odd, 256), t["live_odd_256_s4"]), t["live_odd_256_s4"], 0, atol=1e-5)


def test_face_crops():
    t, _ = source()
    frame = unit(blow_up(t["live_low"], 512))[:1] * 2 - 1
    boxes = t["crop_boxes"]
    crops = crop_resize(frame.expand(len(boxes), -1, -1, -1), boxes, 224)
    near(thinned(crops, t["crop_224_s7"]), t["crop_224_s7"], 0, atol=1e-5)


def test_landmark_boxes():
    t, _ = source()
    image = t["face_image"].to(torch.uint8)
    for i, landmarks in enumerate(t["landmarks"]):
        exact, square = landmark_box(landmarks, *image.shape[:2])
        assert exact == t["face_boxes"][i].tolist(), i
        near(torch.tensor(square), t["face_scaled_boxes"][i], 1e-5)
        x1, y1, x2, y2 = (int(v) for v in square)
        assert torch.equal(image[y1:y2, x1:x2], t[f"face_patch{i}"].to(torch.uint8)), i


def test_way_to_the_first_frame():
    t, _ = source()
    out = t["lerp_out"][0]
    near(ramp(t["lerp_a"][0], t["lerp_b"][0], len(out)), out, 1e-6)


@pytest.mark.parametrize("threshold", [17, 27])
def test_distance_to_remembered_frames(threshold):
    t, values = source()[0], fixture("10")[1]
    expected = values[f"dist_thr{threshold}"]
    memory = KeyframeMemory(t["dist_bank"][0], threshold)
    assert memory.distances(t["dist_new"][0])[0].item() == pytest.approx(expected["min_dist_first"], rel=1e-5)
    assert memory.accept(t["dist_new"][0][:1]) == bool(expected["idx_to_add"])
    assert len(memory.bank) == expected["bank_after"]


def test_frames_are_truncated_to_bytes():
    _, values = fixture("10")
    x, out = values["to_uint8"]["x"], values["to_uint8"]["out"]
    assert to_uint8(torch.tensor(x)).tolist() == out
