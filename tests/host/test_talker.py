"""The demo in a real host: the shipped talker needs no download, and its lips follow the speech in the video file."""

from __future__ import annotations

import json

import pytest
import torch
from avatar.evaluation.correlation import lagged_correlation

from tools.environment import ROOT
from training.examples import SEEDS, portrait
from training.measure import openings

from .browser import drop_workflow, queue_and_wait, screenshot
from .media import check_talks, read_video
from .test_page import OVERLAPS, PLAYED, SET_WIDGETS
from .workflows import every, put, shipped, ui_file

SECONDS = 3.0


@pytest.mark.parametrize("fast", [False, True], ids=["full decoder", "fast decoder"])
def test_lips_follow_the_speech_in_the_demo(host, fast):
    workflow = shipped("demo")
    if fast:
        node = {"decoder": "tiny talker (shipped)"}
        put(workflow, "LiveAvatarSampler", "decoder", "LiveAvatarLoadFastDecoder", **node)
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


def test_the_demo_runs_from_the_page_as_it_is(ready, browser):
    changed = {"LiveAvatarSampler": {"max_seconds": SECONDS}}
    with browser.page_with_graph("LiveAvatarSampler") as page:
        drop_workflow(page, ui_file("demo"))
        assert page.get_by_role("dialog").all_inner_texts() == []  # missing nodes are told in a dialog
        page.evaluate(SET_WIDGETS, changed)
        done = queue_and_wait(page)
        page.wait_for_function(PLAYED, arg="AvatarStreamToVideo", timeout=10_000)
        page.evaluate("() => window.app.canvas.setDirty(true, true)")
        page.wait_for_timeout(500)
        screenshot(page, "demo")
        assert page.evaluate(OVERLAPS) == []
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
    entry = ready.wait(done["prompt_id"])
    check_talks(read_video(ready.saved_video(entry)), (192, 192), round(25 * SECONDS), 48_000, 1)
