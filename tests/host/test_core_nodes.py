"""The host's own nodes between ours: on the MODEL, on the CLIP, and on frames that come as a stream."""

from __future__ import annotations

import pytest
from PIL import Image

from .media import check_talks, read_video
from .workflows import Api, add, between, change, only, relink, small

SECONDS, FRAMES = 0.24, 6
LORA = {"lora_name": "tiny_lora_converted.safetensors", "strength_model": 1.0}


@pytest.mark.parametrize("dtype", ["default", "fp16", "bf16", "fp32"])
def test_the_compute_dtype_of_our_model_can_be_chosen(ready, dtype):
    workflow = small(SECONDS)
    loader = only(workflow, "LiveAvatarLoadCheckpoint")
    change(workflow, "LiveAvatarSampler", model=[loader, 0])
    between(workflow, "LiveAvatarSampler", "model", "ModelComputeDtype", "model", dtype=dtype)
    check_talks(read_video(ready.video(workflow)), (64, 64), FRAMES, 24_000, 1)


@pytest.mark.parametrize("strength_clip", [0.0, 1.0])
def test_core_lora_and_layer_nodes_take_our_clip(ready, strength_clip):
    workflow = small(SECONDS)
    loader = only(workflow, "LiveAvatarLoadCheckpoint")
    both = add(workflow, "LoraLoader", **LORA, strength_clip=strength_clip)
    relink(workflow, [loader, 1], [both, 1])
    change(workflow, "LiveAvatarSampler", model=[both, 0])
    change(workflow, "LoraLoader", model=[loader, 0], clip=[loader, 1])
    between(workflow, "CLIPTextEncode", "clip", "CLIPSetLastLayer", "clip", stop_at_clip_layer=-2)
    check_talks(read_video(ready.video(workflow)), (64, 64), FRAMES, 24_000, 1)


def frames_of(workflow: Api) -> str:
    """The stream of a run as frames, in place of its video."""
    stream = workflow.pop(only(workflow, "AvatarStreamToVideo"))["inputs"]["stream"]
    return add(workflow, "AvatarStreamToFrames", stream=stream, frames="stream")


def test_streamed_frames_go_through_core_nodes_for_pictures(ready):
    workflow = small(SECONDS)
    frames = frames_of(workflow)
    cropped = add(workflow, "ImageCrop", image=[frames, 0], width=32, height=16, x=8, y=8)
    inverted = add(workflow, "ImageInvert", image=[cropped, 0])
    larger = add(workflow, "ImageScaleBy", image=[inverted, 0], upscale_method="bilinear", scale_by=2.0)
    add(workflow, "SaveImage", images=[larger, 0], filename_prefix="streamed/changed")
    files = [path for path in ready.files(ready.run(workflow)) if path.parent.name == "streamed"]
    assert len(files) == FRAMES
    assert {Image.open(path).size for path in files} == {(64, 32)}


def test_streamed_frames_drive_our_pose_video(ready):
    workflow = small(SECONDS)
    video = workflow.pop(only(workflow, "AvatarStreamToVideo"))
    frames = add(workflow, "AvatarStreamToFrames", stream=video["inputs"]["stream"], frames="stream")
    sampler = workflow[only(workflow, "LiveAvatarSampler")]["inputs"]
    posed = add(
        workflow,
        "LiveAvatarPoseVideo",
        positive=sampler["positive"],
        vae=sampler["vae"],
        frames=[frames, 0],
        fps=25.0,
    )
    second = add(workflow, "LiveAvatarSampler", **{**sampler, "positive": [posed, 0]})
    add(workflow, "AvatarStreamToVideo", **{**video["inputs"], "stream": [second, 0]})
    check_talks(read_video(ready.video(workflow)), (64, 64), FRAMES, 24_000, 1)


def test_a_node_that_needs_all_frames_says_how_to_get_them(ready):
    workflow = small(SECONDS)
    frames = frames_of(workflow)
    joined = add(workflow, "ImageBatch", image1=[frames, 0], image2=[frames, 0])
    add(workflow, "PreviewImage", images=[joined, 0])
    with pytest.raises(RuntimeError, match="set 'frames' of Avatar Stream to Frames to 'batch'"):
        ready.run(workflow)
