"""Motion encoder, keypoints, pose guider and scheduler against the recorded reference."""

from __future__ import annotations

import re

import pytest
import torch
from avatar.engines.parts.face.keypoints import Pose, draw, drive, face_boxes, ramp_poses
from avatar.engines.personalive.config import SchedulerConfig, StreamConfig
from avatar.engines.personalive.scheduler import Scheduler

from tests.parity import personalive_fixtures as fx
from tests.parity.personalive_fixtures import blow_up, fixture, frames_first, near, thinned, unit

SIZES = ["tiny", "full"]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def test_weights_are_those_of_the_reference_run():
    spec = fx.weights()
    for name, entry in {**spec["files"], **spec["full_size"]}.items():
        if "checks" not in entry:
            continue
        values = [t.double() for t in fx.state(name).values()]
        assert len(values) == entry["checks"]["keys"], name
        total = sum(v.abs().sum().item() for v in values)
        assert total == pytest.approx(entry["checks"]["abs_sum"], rel=1e-6), name


def make_scheduler() -> Scheduler:
    c = fx.weights()["configs"]["noise_scheduler_kwargs"]
    return Scheduler(SchedulerConfig(c["beta_start"], c["beta_end"]))


def test_schedule_and_window_timesteps():
    t, values = fixture("01")
    scheduler = make_scheduler()
    near(scheduler.betas, t["betas"], 1e-6)
    near(scheduler.alphas_cumprod, t["alphas_cumprod"], 1e-6)
    steps = len(t["timesteps_pipeline"])
    assert scheduler.timesteps(steps) == t["timesteps_pipeline"].tolist()
    now, after = scheduler.window_timesteps(StreamConfig(steps=steps))
    assert now.tolist() == t["timesteps_window"].tolist()
    assert after[0] == -1
    assert values["final_alpha_cumprod"] == 1.0


def test_noise_is_added_per_frame():
    t, _ = fixture("01")
    scheduler = make_scheduler()
    clean, noise = (t[k][0].transpose(0, 1) for k in ("add_x", "add_noise"))
    window = t["timesteps_window"][: len(clean)]
    near(scheduler.add_noise(clean, noise, window), t["add_out_per_frame"][0].transpose(0, 1), 1e-6)
    near(scheduler.add_noise(clean, noise, torch.tensor([999])), t["add_out_999"][0].transpose(0, 1), 1e-6)
    half = scheduler.add_noise(clean.half(), noise.half(), window)
    assert half.dtype == torch.float16
    # two roundings of half precision
    near(half, t["add_out_half"][0].transpose(0, 1), 0, atol=2e-3)


def test_step_moves_every_frame_from_its_own_timestep():
    t, values = fixture("01")
    scheduler = make_scheduler()
    now, after = scheduler.window_timesteps(StreamConfig(steps=len(t["timesteps_pipeline"])))
    prev, clean = scheduler.step(t["step_eps"], now, after, t["step_sample"])
    near(prev, t["step_prev"], 1e-6)
    near(clean, t["step_x0"], 1e-6)
    here, there = torch.tensor(fx.numbers(fx.meaning("01", "step749_prev"))[-2:])[:, None]
    near(scheduler.step(t["step_eps"], here, there, t["step_sample"])[0], t["step749_prev"], 1e-6)
    half, _ = scheduler.step(t["step_eps"].half(), now, after, t["step_sample"].half())
    assert str(half.dtype) == values["half_step_dtype"]


@pytest.mark.parametrize("size", SIZES)
def test_motion_encoder(size):
    t, _ = fixture("03")
    model = fx.motion_encoder(size)
    faces = unit(blow_up(t["faces_low"], 224)) * 2 - 1
    seen = {}
    hooks = [
        getattr(model.model, name).register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(name, out)
        )
        for name in ("conv2", "att_1", "conv4", "att_2", "m0", "att_3", "conv6", "fc")
    ]
    near(model(faces), t[f"out_{size}"][0])
    for hook in hooks:
        hook.remove()
    for name, out in seen.items():
        expected = t[f"mid_{size}_{name}"]
        near(thinned(out, expected), expected, name=name)


def poses(size: str):
    """Reference pose and the poses of the two driving chunks."""
    t, _ = fixture("04")
    model = fx.motion_extractor(size)
    reference = Pose(*model(unit(blow_up(t["ref_low"], 256))))
    driving = Pose(*model(unit(blow_up(t["dri_low"], 256))))
    return t, model, reference, driving


@pytest.mark.parametrize("size", SIZES)
def test_motion_extractor_heads(size):
    t, model, reference, driving = poses(size)
    raw = model.detector(unit(blow_up(t["dri_low"], 256)))
    for name, value in raw.items():
        near(value, t[f"{size}/raw_dri_{name}"], name=name)
    # Angles stand 97.5 degrees away from the sum they are computed from, so the offset takes part in the
    # scale.
    near(driving.angles, t[f"{size}/angles_deg"], 1e-5, atol=1e-3)
    near(reference.translation, t[f"{size}/ref_t"])
    near(reference.scale, t[f"{size}/ref_scale"])
    near(reference.keypoints.flatten(1), t[f"{size}/ref_kp"])
    near(driving.translation[:1], t[f"{size}/frame1_t"])


@pytest.mark.parametrize("size", SIZES)
def test_driven_keypoints(size):
    t, _, reference, driving = poses(size)
    first = driving.translation[:1]
    chunk = len(t[f"{size}/online_kps_dri_first"])
    driven = drive(reference, driving, first)
    count = len(t[f"{size}/online_kps_first"]) - chunk
    start = ramp_poses(reference, driven[:1], count)
    near(torch.cat([start.project(), driven[:chunk].project()]), t[f"{size}/online_kps_first"])
    near(driven[chunk:].project(), t[f"{size}/online_kps_next"])
    near(torch.cat([start.project(), driven.project()]), t[f"{size}/offline_kps"])
    own = driving.project()
    near(own[:chunk], t[f"{size}/online_kps_dri_first"])
    near(own[chunk:], t[f"{size}/online_kps_dri_next"])
    near(own, t[f"{size}/forward_kps"])


def canvases(t, kind):
    """Recorded drawings or boxes: (name, the keypoints they belong to, height, width)."""
    found = []
    for name in t:
        group, _, rest = name.rpartition("/")
        if match := re.match(rf"(hand_)?{kind}(_h(\d+)w(\d+)|(\d+))", rest):
            height, width = (match[3], match[4]) if match[3] else (match[5], match[5])
            found.append((name, group, int(height), int(width)))
    assert found
    return found


def test_drawings():
    t, _ = fixture("04")
    for name, group, height, width in canvases(t, "draw"):
        if not name.endswith("_idx"):
            continue
        points = t[f"{group}/online_kps_first" if group else "hand_kps"]
        expected = torch.zeros(len(points), 3, height, width)
        f, c, y, x = t[name].long().unbind(-1)
        expected[f, c, y, x] = t[name.replace("_idx", "_val")]
        near(draw(points, height, width), expected, 1e-6, name=name)


def test_face_boxes():
    t, _ = fixture("04")
    for name, group, height, width in canvases(t, "boxes"):
        if name.endswith("_ref"):
            points = t[f"{group}/online_kps_first"][:1]
        elif name.endswith("_dri"):
            points = torch.cat([t[f"{group}/online_kps_dri_first"], t[f"{group}/online_kps_dri_next"]])
        else:
            points = t["hand_kps"]
        assert face_boxes(points, height, width).tolist() == t[name].tolist(), name


def test_pose_guider():
    t, _ = fixture("05")
    model = fx.pose_guider()
    for name, expected in t.items():
        if name.startswith("out"):
            size, expected = int(name.removeprefix("out")), frames_first(expected)
            features = model(draw(t["kps"][: len(expected)], size, size))
            near(thinned(features, expected), expected, name=name)


def test_pose_slices_keep_all_parts():
    pose = Pose(torch.rand(4, 21, 3), torch.rand(4, 3), torch.rand(4, 3), torch.rand(4, 1))
    assert len(pose[1:3]) == 2
    assert torch.equal(pose[1:3].project(), pose.project()[1:3])
