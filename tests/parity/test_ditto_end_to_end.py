"""A portrait and speech features through all of Ditto's networks against the recorded reference."""

from __future__ import annotations

import functools

import pytest
import torch
from avatar.engines.ditto.conditions import Character, emotion_rows
from avatar.engines.ditto.config import WindowConfig
from avatar.engines.ditto.crop import crop_matrix, cut, halve
from avatar.engines.ditto.driving import Controls
from avatar.engines.ditto.face import eyes
from avatar.engines.ditto.paste import Paste
from avatar.engines.ditto.pipeline import Ditto, Performance, Source

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import drawn, fixture

PARTS = {
    "scale": "scale",
    "pitch": "pitch",
    "yaw": "yaw",
    "roll": "roll",
    "t": "translation",
    "exp": "expression",
    "kp": "keypoints",
}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


@functools.lru_cache
def engine():
    return Ditto(
        fx.motion_model(),
        fx.motion_extractor(),
        fx.appearance_extractor(),
        fx.warping_network(),
        fx.decoder(),
        fx.stitching_network(),
    )


def settings():
    return fixture("12")[1]["settings"]


def picture():
    return fx.picture(*settings()["picture"])


def mesh():
    return drawn("12/landmarks478", (1, 478, 3), 0.05, 0.5)


def eye_numbers(square=None):
    return eyes.openness(mesh()), eyes.ball_vectors(mesh())


@functools.lru_cache
def source(crop):
    """The portrait, seen in the recorded crop ("given") or in one of our own ("own")."""
    t, _ = fixture("12")
    landmarks = t["lm203"].numpy()
    if crop == "own":
        return engine().source([(picture(), landmarks)], eye_numbers)
    motion, volumes = engine().look(t["crop_256"].to(torch.uint8)[None])
    place = (picture(), crop_matrix(landmarks, fx.CROP))
    return Source(Character(motion, *eye_numbers()), volumes, (place,), Paste(*place))


def performance():
    s = settings()
    kept = tuple(s["dim"]) if s["dim"] else None
    return Performance(
        WindowConfig(s["overlap"], s["steps"], s["smo"], s["fix"], kept),
        emotions=emotion_rows(s["emotion"]),
        controls=lambda first, count: Controls(offsets={"pitch": torch.tensor([[float(s["delta_pitch"])]])}),
    )


def noise(purpose, window, shape):
    if purpose == "start":
        return drawn(f"12/clip/{window}", shape)
    return torch.cat([drawn(f"12/step/{i}", (1, *shape[1:])) for i in range(shape[0])])


def speech():
    return drawn("12/audio", (settings()["n"], 1024), 0.5)


def near(actual, name, relative, absolute):
    expected = fixture("12")[0][name]
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    worst = ((actual - expected).abs() / (absolute + relative * expected.abs())).max()
    assert worst <= 1, f"{name} deviates by {worst:.3g} times what is allowed"


def test_crop():
    t, _ = fixture("12")
    square = halve(cut(picture(), crop_matrix(t["lm203"].numpy(), fx.CROP)))
    difference = (square.float() - t["crop_256"]).abs()
    assert difference.mean() < 0.25
    assert difference.max() <= 8


@pytest.mark.parametrize(("crop", "relative", "absolute"), [("given", 1e-4, 1e-4), ("own", 0, 6e-3)])
def test_portrait(crop, relative, absolute):
    motion = source(crop).character.motion
    for theirs, ours in PARTS.items():
        near(getattr(motion, ours), f"source_{theirs}", relative, absolute)
    near(source(crop).character.eye_open, "eye_open", 1e-5, 1e-6)
    near(source(crop).character.eye_ball, "eye_ball", 1e-5, 1e-6)


@pytest.mark.parametrize(("crop", "absolute"), [("given", 1e-3), ("own", 1e-2)])
def test_motion(crop, absolute):
    made = torch.cat([rows for rows, _ in engine().motion(source(crop), [speech()], performance(), noise)])
    made[:, 0] += 1
    near(made, "motion", 0, absolute)


@pytest.mark.parametrize(("crop", "absolute"), [("given", 1e-3), ("own", 1e-2)])
def test_keypoints(crop, absolute):
    parts = list(engine().keypoints(source(crop), [speech()], performance(), noise))
    near(torch.cat([driving for _, driving in parts]), "x_d", 0, absolute)
    near(parts[0][0], "x_s", 0, absolute)


@pytest.mark.parametrize("crop", ["given", "own"])
def test_frames(crop):
    t, _ = fixture("12")
    wanted = settings()["frames"]
    parts = list(engine().keypoints(source(crop), [speech()], performance(), noise))
    points, driving = parts[0][0], torch.cat([driving for _, driving in parts])
    made = torch.cat(
        [engine().paint(source(crop), (points, driving[frame][None]), frame)() for frame in wanted]
    )
    difference = (made.float() - t["frames"]).abs()
    assert difference.mean() < 0.7
    assert difference.max() <= 10
