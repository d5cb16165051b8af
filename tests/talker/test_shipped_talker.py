"""The shipped talker talks: lips follow the speech, the face stays the same, blocks join without a jump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from benchmarks.talker.checkpoint import Talker, floats
from benchmarks.talker.measures import joints
from training.draw import mouth_box
from training.examples import SEEDS, portrait
from training.measure import openings

# isort: split
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.parts.face.boxes import Box
from avatar.evaluation.correlation import lagged_correlation
from avatar.evaluation.readers.portrait import face_distance

from tools.demo_media import EXAMPLE
from tools.environment import ROOT

FOLDER = ROOT / "talker"
SIZE = 192
SECONDS = 3
FRAMES = 25 * SECONDS
MATCH_DB = 28  # of the fast decoder with the full one
SAYS = json.loads((Path(__file__).parent / "openings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def talker() -> Talker:
    return Talker.load(FOLDER, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    pixels = torch.from_numpy(portrait(SEEDS["portrait"], SIZE)[1])
    return pixels.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def distance(video: torch.Tensor, drawn: torch.Tensor) -> float:
    """Of the last frame to the portrait."""
    mouth = Box(*mouth_box(portrait(SEEDS["portrait"])[0], SIZE)[0].round().int().tolist())
    return face_distance(video[-1].permute(2, 0, 1).float(), (drawn[0, :, 0] + 1) * 127.5, mouth)


@pytest.fixture(scope="module")
def video(talker: Talker, drawn: torch.Tensor) -> torch.Tensor:
    samples, rate = soundfile.read(EXAMPLE / "speech.ogg", dtype="float32")
    assert rate == 16000
    scene = talker.scene(drawn, torch.from_numpy(samples[: SECONDS * rate]))
    return talker.video(scene, FRAMES, SamplingConfig())


@pytest.fixture(scope="module")
def read(video: torch.Tensor) -> torch.Tensor:
    """How far the mouth is open in each frame, as seen in the picture."""
    return openings(floats(video), portrait(SEEDS["portrait"])[0])


def test_the_mouth_follows_the_speech(read):
    score, lag = lagged_correlation(read, torch.tensor(SAYS[:FRAMES]))
    assert score > 0.7
    assert abs(lag) <= 1


def test_the_mouth_does_not_follow_another_part_of_the_speech(read):
    other = torch.tensor(SAYS[FRAMES + 40 : 2 * FRAMES + 40])
    assert lagged_correlation(read, other, 0)[0] < 0.45


def test_the_mouth_is_closed_before_the_speech(read):
    assert max(SAYS[:4]) == 0
    assert read[:4].max() < 0.15
    assert read.max() > 0.4


def test_the_face_stays_that_of_the_portrait(video, drawn):
    assert distance(video, drawn) < 8


def test_blocks_join_without_a_jump_and_the_first_frames_are_sharp(video):
    found = joints(video)
    assert found["change between blocks"] < 1.6 * found["change between latents of a block"]
    assert found["sharpness of the first frames"] > 0.8 * found["sharpness of later frames"]


def test_latents_decoded_apart_are_the_same_video(talker, video, drawn):
    samples, rate = soundfile.read(EXAMPLE / "speech.ogg", dtype="float32")
    scene, frames = talker.scene(drawn, torch.from_numpy(samples[: SECONDS * rate])), 21
    latents = talker.latents(scene, frames, SamplingConfig())
    assert torch.equal(talker.decode(scene, latents, frames), video[:frames])


@pytest.fixture(scope="module")
def fast_video(talker: Talker, drawn: torch.Tensor) -> torch.Tensor:
    """The same video from the small decoder."""
    samples, rate = soundfile.read(EXAMPLE / "speech.ogg", dtype="float32")
    fast = talker.with_fast_decoder(FOLDER / "fast_decoder" / "taew2_1.safetensors")
    scene = fast.scene(drawn, torch.from_numpy(samples[: SECONDS * rate]))
    return fast.video(scene, FRAMES, SamplingConfig())


def test_the_fast_decoder_shows_the_same_talker(fast_video, video, drawn):
    read = openings(floats(fast_video), portrait(SEEDS["portrait"])[0])
    score, lag = lagged_correlation(read, torch.tensor(SAYS[:FRAMES]))
    assert score > 0.7
    assert abs(lag) <= 1
    assert distance(fast_video, drawn) < 8
    assert ((floats(fast_video) - floats(video)) / 2).square().mean() < 10 ** -(MATCH_DB / 10)


def test_the_fast_decoder_joins_blocks_without_a_jump(fast_video, video):
    found, full = joints(fast_video), joints(video)
    assert found["change between blocks"] < 1.6 * found["change between latents of a block"]
    assert found["sharpness of later frames"] > 0.8 * full["sharpness of later frames"]


def test_it_is_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and EXAMPLE not in path.parents]
    assert sum(path.stat().st_size for path in files) < 16 * 2**20
