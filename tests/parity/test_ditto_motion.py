"""Ditto's motion of whole speeches, of recordings and live, against the recorded reference."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.ditto.conditions import Character, Conditions, emotion_rows
from avatar.engines.ditto.config import WindowConfig
from avatar.engines.ditto.lmdm import Sampler
from avatar.engines.ditto.motion import FaceMotion
from avatar.engines.ditto.windows import MotionStream

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, drawn, fixture, given, motion_model


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def noise(prefix):
    def draw(purpose, window, shape):
        if purpose == "start":
            return drawn(f"{prefix}/clip/{window}", shape)
        return torch.cat([drawn(f"{prefix}/step/{i}", (1, *shape[1:])) for i in range(shape[0])])

    return draw


def config(case, **more):
    kept = tuple(case["dim"]) if case["dim"] else None
    return WindowConfig(case["overlap"], case["steps"], case["smo"], case["fix"], kept, **more)


def stream(number, name, direction, **more):
    """The motion stream of a case, for its own character; ``direction``: see `fx.first_directions`."""
    case, settings = fixture(number)[1][name], config(fixture(number)[1][name], **more)
    names = ("scale", "pitch", "yaw", "roll", "t", "exp", "kp")
    heads = {key: given(number, f"{number}/{name}/source/{key}") for key in names}
    eyes = (given(number, f"{number}/{name}/eye_open"), given(number, f"{number}/{name}/eye_ball"))
    who = Character(FaceMotion.of_heads(heads), *eyes)
    emotion = fixture(number)[1].get("emotion", {"value": 4})["value"]
    bounds = warm_up = None
    if case["clip"]:
        bounds = torch.stack([given(number, f"{number}/{name}/clip_{end}") for end in ("low", "high")])
    if settings.live:
        warm_up = drawn(f"{number}/{name}/silence", (settings.overlap, 1024), 0.1)
    sampler = Sampler(motion_model(), settings.steps)
    sampler.steps.direction[0] = direction
    return MotionStream(
        sampler,
        Conditions(who, emotion_rows(emotion)),
        who.motion.vectors(),
        settings,
        noise(f"{number}/{name}"),
        bounds,
        warm_up,
    )


def true_scale(parts):
    """Vectors as the set records them: with the scale itself."""
    vectors = torch.cat(parts).clone()
    vectors[:, 0] += 1
    return vectors


def run(number, name, handed_over=5, **more):
    """The motion, its stream and how much had come before each hand-over, with the first direction that fits best."""
    expected = fixture(number)[0][name]
    case = fixture(number)[1][name]
    speech = drawn(f"{number}/{name}/audio", (case["n"], 1024), 0.5)
    runs = []
    for direction in fx.first_directions(case["steps"]):
        motion = stream(number, name, direction, **more)
        parts, emitted = [], []
        for rows in speech.split(handed_over):
            emitted.append(sum(map(len, parts)))
            parts += motion.push(rows)
        emitted.append(sum(map(len, parts)))
        parts += motion.finish()
        emitted.append(sum(map(len, parts)))
        made = true_scale(parts)
        worst = fx.deviation(made, expected[: len(made)], number, name)
        runs.append((worst, made, motion, emitted))
    return min(runs, key=lambda run: run[0])[1:]


@pytest.mark.parametrize("name", fx.cases("04", "segments"))
@pytest.mark.parametrize("handed_over", [1000, 13])
def test_motion_of_a_recording(name, handed_over):
    made, motion, _ = run("04", name, handed_over)
    check(made, "04", name)
    assert motion.windows == fixture("04")[1][name]["segments"]


@pytest.mark.parametrize("name", fx.cases("05", "segments"))
def test_live_motion(name):
    t, values = fixture("05")
    made, motion, emitted = run("05", name, live=True, exact_length=False)
    assert emitted == t[f"{name}_emitted"].tolist()
    check(made, "05", name, t)
    check(true_scale([motion.first]), "05", f"{name}_d0", t)
    assert motion.windows == values[name]["segments"]


@pytest.mark.parametrize("name", fx.cases("05", "segments"))
def test_exact_live_motion_has_the_length_of_its_speech_and_the_same_frames(name):
    t, values = fixture("05")
    made, _, _ = run("05", name, 1000, live=True)
    check(made, "05", name, {name: t[name][: values[name]["n"]]})
