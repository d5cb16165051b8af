"""The demo in a real host: the shipped talker needs no download, and its lips follow the speech in the video file."""

from __future__ import annotations

import json
import shutil

import torch

from tools.demo_media import EXAMPLE
from tools.environment import ROOT
from training.examples import SEEDS, portrait
from training.measure import lagged_correlation, openings

from .media import read_video
from .workflows import every, shipped

SECONDS = 3.0


def test_lips_follow_the_speech_in_the_demo(host):
    workflow = shipped("demo")
    for kind, field, name in (("LoadImage", "image", "portrait.png"), ("LoadAudio", "audio", "speech.ogg")):
        (node,) = every(workflow, kind)
        assert workflow[node]["inputs"][field] == name
        workflow[node]["inputs"][field] = f"example-{name}"
        shutil.copyfile(EXAMPLE / name, host.input_dir / f"example-{name}")
    (sampler,) = every(workflow, "LiveAvatarSampler")
    workflow[sampler]["inputs"]["max_seconds"] = SECONDS
    video = read_video(host.video(workflow))
    says = json.loads((ROOT / "tests" / "talker" / "openings.json").read_text(encoding="utf-8"))
    frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    read = openings(frames, portrait(SEEDS["portrait"])[0])
    score, lag = lagged_correlation(read, torch.tensor(says[: len(read)]))
    assert score > 0.6
    assert abs(lag) <= 1
    assert video.audio_seconds > SECONDS - 0.1
