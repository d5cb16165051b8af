"""Metrics of the face, on faces whose movement is known."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.face.boxes import Box
from avatar.evaluation.faces import regions_of
from avatar.evaluation.instruments import Instruments, Subject
from avatar.evaluation.measure import measure
from avatar.evaluation.metrics.blinks import blinks

from tests.unit.evaluation.videos import FACE, clip_of, faces, regions, syllables, voice
from training import faces as drawn
from training.draw import render
from training.measure import parts
from training.motion import still


def scores(frames: torch.Tensor, audio: dict | None = None, **known: object) -> dict:
    found = measure(clip_of(frames, audio), Subject(regions=regions(), **known))
    return {one.metric.name: one for one in found.scores}


def drawn_video(size: int = 64, **motion: torch.Tensor) -> tuple[torch.Tensor, Subject]:
    who = drawn.sample(1, torch.Generator().manual_seed(7009))
    moving = still(1, len(next(iter(motion.values()))))
    moving |= {name: value[None] for name, value in motion.items()}
    frames = ((render(who, moving, size)[0] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    boxes = {name: Box(*(round(part * size) for part in box)) for name, box in parts(who).items()}
    return frames, Subject(regions=regions_of(boxes["face"], "drawn", boxes["mouth"], boxes["eyes"]))


def test_drawn_blinks_are_counted_where_they_are():
    closed, at = torch.zeros(200), [40, 110, 175]
    for frame in at:
        closed[frame - 2 : frame + 3] = torch.tensor([0.4, 0.8, 1.0, 0.8, 0.4])
    frames, subject = drawn_video(blink=closed)
    found = measure(clip_of(frames), subject)
    times = blinks(found.seen.tracks["eyes"], 25) * 25
    assert times.tolist() == pytest.approx(at, abs=1.5)
    assert next(one.value for one in found.scores if one.metric.name == "blinks") == pytest.approx(22.5)


def test_open_eyes_do_not_blink():
    frames, subject = drawn_video(dx=0.01 * torch.sin(torch.arange(150) / 20))
    assert len(blinks(measure(clip_of(frames), subject).seen.tracks["eyes"], 25)) == 0


def test_the_head_is_found_where_it_went():
    shift = [0, 1, 2, 3, 4, 3, 2, 1, 0, -2]
    frames = faces(torch.zeros(10), shift)
    found = measure(clip_of(frames), Subject(regions=regions()))
    moved = found.seen.tracks["head"].values[:, 0] * (FACE.x2 - FACE.x1)
    assert moved.tolist() == pytest.approx(shift, abs=0.6)
    assert scores(frames)["head motion"].value > 1
    assert scores(faces(torch.zeros(10)))["head motion"].value == pytest.approx(0, abs=1e-4)


def test_a_moving_mouth_is_expression_and_a_moving_head_is_not():
    still_face = scores(faces(torch.zeros(50)))["expression spread"].value
    talking = scores(faces(syllables(2, 1)))["expression spread"].value
    assert still_face == pytest.approx(0, abs=1e-4)
    assert talking > 2


def test_a_mouth_that_moves_in_silence_is_noticed():
    level = syllables(8, 1)
    level[100:150] = 0
    restless = level.clone()
    restless[100:150] = 0.8
    assert scores(faces(level), voice(level))["mouth open in silence"].value < 0.1
    assert scores(faces(restless), voice(level))["mouth open in silence"].verdict == "warn"


def test_the_distance_to_the_portrait_grows_when_the_colours_do():
    portrait = faces(torch.zeros(1))[0]
    assert scores(faces(torch.zeros(50)), reference=portrait)["portrait distance"].value == 0
    brighter = scores(faces(torch.zeros(50), brightness=200), reference=portrait)
    assert brighter["portrait distance"].value == pytest.approx(20, abs=1)
    wandering = torch.cat([faces(torch.zeros(26), brightness=180 + step * 10) for step in range(4)])
    assert scores(wandering, reference=portrait)["portrait distance slope"].value > 100


def test_a_mouth_does_not_count_in_the_distance():
    portrait = faces(torch.zeros(1))[0]
    assert scores(faces(torch.ones(50)), reference=portrait)["portrait distance"].value < 1.5


def test_no_face_is_said_and_the_rest_is_measured():
    class Nobody:
        def find(self, image):
            return []

    found = measure(clip_of(faces(torch.zeros(30))), Subject(), Instruments(finder=Nobody()))
    reasons = {one.metric.name: one.skipped for one in found.scores}
    assert reasons["blinks"].startswith("No face was found")
    assert reasons["T.Flicker"] == ""


def test_a_found_face_says_who_found_it():
    class Finder:
        def find(self, image):
            return [FACE]

    found = measure(clip_of(faces(torch.zeros(30))), Subject(), Instruments(finder=Finder()))
    assert found.regions.origin == "Finder"


def test_a_face_outside_of_the_frame_is_refused():
    outside = Subject(regions=regions_of(Box(0, 0, 100, 100), "the test"))
    with pytest.raises(ValueError, match="inside the frame of 64x64"):
        measure(clip_of(faces(torch.zeros(3))), outside)
