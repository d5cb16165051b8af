"""Ditto's way from motion to keypoints against the recorded reference: parts, masks, controls, blinks, fades."""

from __future__ import annotations

import re

import pytest
import torch
from avatar.engines.ditto.blinks import Blinks, blink_rows, fades
from avatar.engines.ditto.driving import Controls, Driver, DrivingConfig
from avatar.engines.ditto.motion import ANGLES, FaceMotion, degrees
from avatar.engines.parts.face.keypoints import rotation

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, drawn, fixture, given

PARTS = {
    "scale": (1, 0.05, 1.3),
    "pitch": (66, 1.5, 0),
    "yaw": (66, 1.5, 0),
    "roll": (66, 1.5, 0),
    "t": (3, 0.05, 0),
    "exp": (63, 0.02, 0),
    "kp": (63, 0.3, 0),
}
OURS = {"exp": "expression", "t": "translation"}
FRAMES = 12


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def motion(*places):
    """Motions that the set names by a place, one after another."""
    heads = {
        part: torch.cat([drawn(f"{place}/{part}", (1, width), scale, offset) for place in places])
        for part, (width, scale, offset) in PARTS.items()
    }
    return FaceMotion.of_heads(heads)


def options(case):
    return fixture("08")[1][case]["options"]


def array(text):
    return given("08", text.removeprefix("array "))


def configured(o, picture):
    gains = o.get("use_d_keys")
    if isinstance(gains, list):
        gains = dict.fromkeys(gains, 1.0)
    return DrivingConfig(
        gains=None if gains is None else {OURS.get(name, name): gain for name, gain in gains.items()},
        relative=o.get("relative_d", True),
        drive_eyes=o.get("drive_eye"),
        gains_on_logits=True,
        fade_to={"s": "source"}.get(o.get("fade_type"), "first"),
        faded=tuple(OURS.get(name, name) for name in o.get("fade_out_keys", ("exp",))),
    )


def controls(o, per_frame):
    """Every frame's controls as one set; what only some frames have counts as "no change" in the others."""
    rows = [dict(o.get("overall_ctrl_info", {})) | row for row in per_frame or []]

    def column(name, missing):
        if not any(name in row for row in rows):
            return None
        return torch.tensor([row.get(name, missing) for row in rows], dtype=torch.float32)[:, None]

    offsets = {name: column(f"delta_{name}", None) for name in ANGLES}
    gains = {name: column(f"alpha_{name}", 1.0) for name in ANGLES}
    expression = next((array(row["delta_exp"]) for row in rows if "delta_exp" in row), None)
    return Controls(
        {name: value for name, value in offsets.items() if value is not None},
        {name: value for name, value in gains.items() if value is not None},
        expression,
        column("vad_alpha", 1.0),
        column("fade_alpha", 1.0) if o.get("fade_type") else None,
    )


def driver(case):
    o = options(case)
    picture = o.get("is_image_flag", True)
    source = motion("08/source/0") if picture else motion(*(f"08/source/{j}" for j in range(3)))
    blinks = None
    if "delta_eye_arr" in o:
        table = array(o["delta_eye_arr"])
        blinks = Blinks(table, blink_rows(o["N_d"], len(table), o["delta_eye_open_n"]))
    stitch = fx.stitching_network()
    return Driver(
        source,
        configured(o, picture),
        stitch if o.get("flag_stitching", True) else None,
        motion(o["d0"].removeprefix("keys ").removesuffix("/*")) if "d0" in o else None,
        motion("08/character").scale if "ch_info" in o else None,
        blinks,
    )


@pytest.mark.parametrize("block", [FRAMES, 5])
@pytest.mark.parametrize("case", fx.cases("08", "options"))
def test_keypoints(case, block):
    """Frames in one block, or a few at a time."""
    t, values = fixture("08")
    per_frame = values[case]["per_frame"]
    if per_frame is None:
        per_frame = [{}] * FRAMES
    frames = len(t[f"{case}_x_d"])
    per_frame = (per_frame + [{}] * frames)[:frames]
    drive, driving, sources = driver(case), [], []
    for first in range(0, frames, block):
        part = range(first, min(first + block, frames))
        source, points = drive(
            motion(*(f"08/drive/{i}" for i in part)), controls(options(case), [per_frame[i] for i in part])
        )
        sources.append(source.expand_as(points))
        driving.append(points)
    check(torch.cat(driving), "08", f"{case}_x_d", t)
    if f"{case}_x_s" in t:
        check(torch.cat(sources), "08", f"{case}_x_s", t)


def test_angles_and_transformed_keypoints():
    t, _ = fixture("08")
    source = motion("08/source/0")
    angles = torch.cat([degrees(getattr(source, name)) for name in ANGLES], -1)
    check(angles[0], "08", "degrees", t)
    check(rotation(angles), "08", "rotation", t)
    check(source.points(), "08", "transformed", t)


def test_stitching():
    t, _ = fixture("08")
    network = fx.stitching_network()
    check(network(given("08", "08/stitch_a"), given("08", "08/stitch_b")), "08", "stitched", t)


def test_smoothed_source_video():
    t, _ = fixture("08")
    frames = len(t["smoothed_template"])
    smooth = motion(*(f"08/smooth/{i}" for i in range(frames))).smoothed(13)
    parts = (smooth.scale, smooth.pitch, smooth.yaw, smooth.roll, smooth.translation, smooth.expression)
    check(torch.cat([*parts, smooth.keypoints], -1), "08", "smoothed_template", t)


def test_fades():
    t, _ = fixture("08")
    about = fx.meaning("08", "fade_alpha")
    frames, fade_in, fade_out = map(int, re.findall(r"(?:^|fade_in |fade_out )(\d+)", about))
    recorded = t["fade_alpha"]
    check(
        fades(frames, fade_in, fade_out), "08", "fade_alpha", {"fade_alpha": recorded.where(recorded >= 0, 1)}
    )


def test_blinks_at_random():
    t, _ = fixture("08")
    about = fx.meaning("08", "blink_index_random")
    length = int(re.search(r"blink length (\d+)", about)[1])
    recorded = t["blink_index_random"]
    rows = blink_rows(len(recorded), length, 0, fx.seed())
    assert rows.tolist() == recorded.tolist()


def test_blinks_after_a_fixed_time():
    t, _ = fixture("08")
    about = fx.meaning("08", "blink_index_fixed")
    recorded = t["blink_index_fixed"]
    length = int(recorded.max()) + 1
    rows = blink_rows(len(recorded), length, int(re.search(r"open length (\d+)", about)[1]))
    assert rows.tolist() == recorded.tolist()


@pytest.mark.parametrize("name", ["blink_index_list", "blink_index"])
def test_blinks_after_listed_times(name):
    t, _ = fixture("08")
    about = fx.meaning("08", name)
    recorded = t[name]
    pauses = [int(n) for n in re.findall(r"\d+", re.search(r"\[(.*)\]", about)[1])]
    rows = blink_rows(len(recorded), int(recorded.max()) + 1, pauses)
    assert rows.tolist() == recorded.tolist()
