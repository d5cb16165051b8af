"""The shipped talker talks: lips follow the speech, the face stays the same, blocks join without a jump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from benchmarks.talker import SIZE, Talker, face_distance, seams
from training.examples import SEEDS, portrait
from training.measure import openings

# isort: split
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.evaluation.correlation import lagged_correlation

from tools.demo_media import EXAMPLE
from tools.environment import ROOT

FOLDER = ROOT / "talker"
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


@pytest.fixture(scope="module")
def video(talker: Talker, drawn: torch.Tensor) -> torch.Tensor:
    samples, rate = soundfile.read(EXAMPLE / "speech.ogg", dtype="float32")
    assert rate == 16000
    scene = talker.scene(drawn, torch.from_numpy(samples[: SECONDS * rate]))
    return talker.video(scene, FRAMES, SamplingConfig())


@pytest.fixture(scope="module")
def read(video: torch.Tensor) -> torch.Tensor:
    """How far the mouth is open in each frame, as seen in the picture."""
    return openings(video, portrait(SEEDS["portrait"])[0])


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
    who = portrait(SEEDS["portrait"])[0]
    assert face_distance(video[-1], drawn[0, :, 0], who) < 8


def test_blocks_join_without_a_jump_and_the_first_frames_are_sharp(video):
    found = seams(video)
    assert found["change between blocks"] < 1.6 * found["change between latents of a block"]
    assert found["sharpness of frames 0-8"] > 0.8 * found["sharpness of later frames"]


@pytest.fixture(scope="module")
def fast_video(talker: Talker, drawn: torch.Tensor) -> torch.Tensor:
    """The same video from the small decoder."""
    samples, rate = soundfile.read(EXAMPLE / "speech.ogg", dtype="float32")
    fast = talker.with_fast_decoder(FOLDER / "fast_decoder" / "taew2_1.safetensors")
    scene = fast.scene(drawn, torch.from_numpy(samples[: SECONDS * rate]))
    return fast.video(scene, FRAMES, SamplingConfig())


def test_the_fast_decoder_shows_the_same_talker(fast_video, video, drawn):
    who = portrait(SEEDS["portrait"])[0]
    score, lag = lagged_correlation(openings(fast_video, who), torch.tensor(SAYS[:FRAMES]))
    assert score > 0.7
    assert abs(lag) <= 1
    assert face_distance(fast_video[-1], drawn[0, :, 0], who) < 8
    assert ((fast_video - video) / 2).square().mean() < 10 ** -(MATCH_DB / 10)


def test_the_fast_decoder_joins_blocks_without_a_jump(fast_video, video):
    found, full = seams(fast_video), seams(video)
    assert found["change between blocks"] < 1.6 * found["change between latents of a block"]
    assert found["sharpness of later frames"] > 0.8 * full["sharpness of later frames"]


def test_it_is_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and EXAMPLE not in path.parents]
    assert sum(path.stat().st_size for path in files) < 16 * 2**20
