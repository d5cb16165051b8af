"""Every shipped workflow, sent over HTTP, makes a video that talks."""

from __future__ import annotations

import json

import pytest

from tools.make_workflows import versions
from tools.workflows.catalogue import WORKFLOWS
from tools.workflows.layout import page_format
from tools.workflows.looks import NEWER

from .media import FRAMES, check_talks, read_video
from .workflows import NAMES, add, change, every, only, put, small, tiny, ui_file

# Width and height that "fit to area" gives the tests' pictures; sound of the files that speak.
TALL, WIDE = (64, 128), (128, 64)
EXPECTED = {
    "liveavatar": (TALL, FRAMES, 24_000, 1),
    "liveavatar_core": (TALL, FRAMES, 24_000, 1),
    "liveavatar.app": (TALL, FRAMES, 24_000, 1),
    "liveavatar_host_loaders": (TALL, FRAMES, 24_000, 1),
    "liveavatar_real_time": (TALL, FRAMES, 24_000, 1),
    "liveavatar_two_speakers": (WIDE, FRAMES, 44_100, 2),
    "liveavatar_pose_video": (TALL, FRAMES, 24_000, 1),
    "liveavatar_moods": (TALL, FRAMES, 24_000, 1),
    "liveavatar_live_speech": (TALL, 33, 48_000, 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_workflow_makes_a_talking_video(ready, request, name):
    workflow = tiny(name)
    if any(node["class_type"].startswith("VHS_") for node in workflow.values()) and not ready.has_vhs:
        pytest.skip("VHS_PATH names no VideoHelperSuite")
    if every(workflow, "AudioEncoderLoader"):
        request.getfixturevalue("wav2vec2_large")
    check_talks(read_video(ready.video(workflow)), *EXPECTED[name])


def test_the_model_without_its_lora_makes_a_video_with_guidance(ready):
    workflow = small(steps=5, guidance=4.5)
    change(workflow, "LiveAvatarLoadCheckpoint", lora="none")
    (clip,) = every(workflow, "LiveAvatarLoadCheckpoint")
    put(workflow, "LiveAvatarSampler", "negative", "CLIPTextEncode", clip=[clip, 1], text="")
    check_talks(read_video(ready.video(workflow)), (64, 64), 8, 24_000, 1)


def test_a_batch_of_frames_makes_the_same_video_through_the_core_nodes(ready):
    """What VideoHelperSuite does with a stream, Create Video and Save Video do with a batch."""
    workflow = small(seconds=0.8)
    stream = [only(workflow, "LiveAvatarSampler"), 0]
    frames = add(workflow, "AvatarStreamToFrames", stream=stream, frames="batch")
    video = add(workflow, "CreateVideo", images=[frames, 0], audio=[frames, 1], fps=[frames, 2])
    add(workflow, "SaveVideo", video=[video, 0], filename_prefix="video/core", format="auto", codec="auto")
    files = [file for file in ready.files(ready.run(workflow)) if file.suffix == ".mp4"]
    ours, core = sorted(files, key=lambda file: file.name.startswith("core"))
    assert core.name.startswith("core")
    ours, core = read_video(ours), read_video(core)
    check_talks(ours, (64, 64), 20, 24_000, 1)
    check_talks(core, (64, 64), 20, 24_000, None)
    # Encoded twice, with different settings: each picture is most like its own.
    for index, picture in enumerate(ours.frames):
        distances = abs(core.frames - picture.astype(int)).mean(axis=(1, 2, 3))
        assert distances.argmin() == index


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_page_gives_each_widget_the_value_that_is_meant_for_it(host, name):
    """A page knows values by their place, so a node whose inputs have moved needs its workflows made anew."""
    info = NEWER | host.get("/object_info")
    workflow = WORKFLOWS[name]
    if not {node.type for node in workflow.make().values()} <= info.keys():
        pytest.skip("VHS_PATH names no VideoHelperSuite")

    def ours(page: dict) -> list[tuple]:
        return [
            (node["type"], node["widgets_values"], [given["name"] for given in node["inputs"]])
            for node in page["nodes"]
            if node["properties"].get("cnr_id") == "comfyui-liveavatar"
        ]

    shipped = json.loads(ui_file(name).read_text(encoding="utf-8"))
    assert ours(shipped) == ours(page_format(workflow, info, versions())), "python -m tools.make_workflows"
