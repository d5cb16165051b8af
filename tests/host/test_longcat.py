"""LongCat in the host: every shipped workflow over HTTP and from the page, both versions, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tools.demo_media import portrait
from tools.host import Host, HostError
from tools.host_events import HostEvents
from tools.tiny_longcat import make
from tools.workflows.longcat import WORKFLOWS

from .browser import drop_workflow, queue_and_wait, screenshot
from .media import FRAMES, check_talks, read_video, tone, write_wav
from .test_page import (
    LEFT_PREVIEWS,
    OVERLAPS,
    PLAYED,
    REPLACE_CLIP,
    SET_WIDGETS,
    USE_SMALL_FILES,
    close_offer,
    wiring,
)
from .test_personalive import write_driving
from .workflows import TINY as TINY_LIVEAVATAR
from .workflows import WIDE_CLIP, Api, add, change, every, put, shipped, tiny, ui_file

TINY = {
    **TINY_LIVEAVATAR,
    "LiveAvatarLoadCheckpoint": {"checkpoint": "tiny"},
    "LoadVideo": {"file": "old.mp4"},
    "LongCatLoadModel": {"checkpoint": "tiny-1.5/base_model"},
    "LongCatReferenceImage": {"size": "exact", "width": 64, "height": 64},
    "LongCatContinueVideo": {"size": "exact", "width": 64, "height": 64},
}
CLIP = WIDE_CLIP | {"checkpoint": "tiny"}
"""As wide as the tiny LongCat reads it."""
EXPECTED = {
    "longcat_portrait": ((64, 64), FRAMES, 24_000, 1),
    "longcat_two_speakers": ((64, 64), FRAMES, 44_100, 2),
    "longcat_continuation": ((64, 64), FRAMES, 24_000, 1),
}


@pytest.fixture(scope="module")
def studio(ready: Host) -> Host:
    """The host with both versions of the tiny LongCat, a video to go on from, and sound of more than a segment."""
    models = ready.models_dir / "longcat"
    made = make(models / "made")
    for name, version in (("LongCat-Video-Avatar", "1.0"), ("LongCat-Video-Avatar-1.5", "1.5")):
        (made / name).rename(models / f"tiny-{version}")
    lora = models / "tiny-1.5" / "lora" / "dmd_lora.safetensors"
    (ready.models_dir / "loras" / "cfg_step_lora.safetensors").write_bytes(lora.read_bytes())
    face = np.asarray(Image.open(portrait(ready.input_dir / "face.png", 256)))
    write_driving(ready.input_dir / "old.mp4", [np.roll(face, 3 * number, 1) for number in range(24)])
    write_wav(ready.input_dir / "long.wav", tone(4.2, 16_000, 1), 16_000)
    return ready


def small(name: str = "longcat_portrait") -> Api:
    """A shipped workflow on the tiny checkpoints."""
    workflow = tiny(name)
    for type_, inputs in TINY.items():
        for node in every(workflow, type_):
            workflow[node]["inputs"].update(inputs)
    return workflow


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_shipped_workflow_makes_a_talking_video(studio, name):
    check_talks(read_video(studio.video(small(name))), *EXPECTED[name])


def test_a_video_of_two_segments_is_as_long_as_its_speech(studio):
    workflow = small()
    change(workflow, "LoadAudio", audio="long.wav")
    check_talks(read_video(studio.video(workflow)), (64, 64), 105, 16_000, 1)


def test_eight_bits_make_a_video_and_text_alone_does(studio):
    workflow = small()
    change(workflow, "LongCatLoadModel", checkpoint="tiny-1.5/base_model_int8")
    del workflow[every(workflow, "LongCatReferenceImage")[0]]["inputs"]["image"]
    check_talks(read_video(studio.video(workflow)), *EXPECTED["longcat_portrait"])


def test_without_a_portrait_who_asks_for_the_prepared_one_is_told(studio):
    workflow = small()
    (reference,) = every(workflow, "LongCatReferenceImage")
    del workflow[reference]["inputs"]["image"]
    shown = add(workflow, "PreviewImage", images=[reference, 1])
    with HostEvents(studio) as events:
        entry = studio.wait(studio.submit(workflow, events.client_id))
    (told,) = [data for kind, data in events.messages if kind == "execution_error"]
    assert told["node_id"] == shown
    assert "Connect an image to LongCat Reference Image" in told["exception_message"]
    assert studio.saved_video(entry).is_file(), "the video itself needs no portrait"


def test_version_1_0_makes_sixteen_frames_a_second_with_guidance(studio):
    workflow = small()
    change(workflow, "LongCatLoadModel", checkpoint="tiny-1.0/avatar_single")
    guided = {"steps": 4, "text_guidance": 4.0, "audio_guidance": 4.0, "max_seconds": 0.5}
    change(workflow, "LongCatSampler", **guided)
    (clip,) = every(workflow, "LiveAvatarLoadCheckpoint")
    put(workflow, "LongCatSampler", "negative", "CLIPTextEncode", clip=[clip, 1], text="")
    video = read_video(studio.video(workflow))
    assert (video.fps, len(video.frames), video.size) == (16, 8, (64, 64))


BAD = {
    "a LoRA of 1.0 on 1.5": (
        {"LongCatLoadModel": {"lora": "cfg_step_lora.safetensors"}},
        "LongCatLoadModel .*was made for LongCat 1.0, and this model is 1.5",
    ),
    "a LoRA of 1.5 on 1.0": (
        {"LongCatLoadModel": {"checkpoint": "tiny-1.0/avatar_single", "lora": "dmd_lora"}},
        "LongCatLoadModel .*was made for LongCat 1.5, and this model is 1.0",
    ),
    "a checkpoint that is not there": (
        {"LongCatLoadModel": {"checkpoint": "LongCat-Video-Avatar-1.5/base_model"}},
        "LongCatLoadModel .*Turn on the loader's download option .*GB",
    ),
    "steps that the LoRA does not know": (
        {"LongCatSampler": {"steps": 6}},
        "LongCatSampler .*Set steps to 8",
    ),
    "guidance with few steps": (
        {"LongCatSampler": {"text_guidance": 4.0}},
        "LongCatSampler .*Set both guidances to 1",
    ),
    "an overlap that is no whole number of latents": (
        {"LongCatSampler": {"overlap": 12}},
        "Set overlap to 1",
    ),
    "blocks that wait for a CPU": (
        {"LongCatSampler": {"blocks_on_cpu": 1}},
        "LongCatSampler .*help a GPU only",
    ),
    "an odd size": ({"LongCatReferenceImage": {"width": 72}}, "multiples of 16, such as (64|80)x64"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_sentence(studio, case):
    workflow, (values, words) = small(), BAD[case]
    for type_, inputs in values.items():
        change(workflow, type_, **inputs)
    with pytest.raises(HostError, match=f"(?s){words}"):
        studio.run(workflow)


def test_two_voices_need_masks_and_each_engine_its_own_encoder(studio):
    workflow = small("longcat_two_speakers")
    (speech,), (masks,) = every(workflow, "LiveAvatarEncodeSpeech"), every(workflow, "LiveAvatarSpeakerMasks")
    del workflow[masks]
    change(workflow, "LongCatSampler", speech=[speech, 0])
    with pytest.raises(HostError, match="Add LiveAvatar Speaker Masks"):
        studio.run(workflow)
    workflow = small()
    (clip,) = every(workflow, "LiveAvatarLoadCheckpoint")
    change(workflow, "LiveAvatarEncodeSpeech", audio_encoder=[clip, 3])
    with pytest.raises(HostError, match="Connect whisper-large-v3"):
        studio.run(workflow)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_shipped_workflow_runs_from_the_page(studio, browser, name):
    with browser.page_with_graph("LongCatSampler") as page:
        drop_workflow(page, ui_file(name))
        sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
        assert wiring(sent) == wiring(shipped(name))
        close_offer(page, name)
        page.evaluate(USE_SMALL_FILES)
        page.evaluate(SET_WIDGETS, TINY)
        page.evaluate(REPLACE_CLIP, CLIP)
        done = queue_and_wait(page)
        # One answer: the player changes from what grows to the finished file meanwhile.
        played = page.wait_for_function(PLAYED, arg="AvatarStreamToVideo", timeout=30_000)
        assert played.json_value() == list(EXPECTED[name][0])
        page.evaluate("() => window.app.canvas.setDirty(true, true)")
        page.wait_for_timeout(500)  # nodes grow with what they show
        screenshot(page, name)
        assert page.evaluate(LEFT_PREVIEWS) == page.evaluate(OVERLAPS) == []
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
    entry = studio.wait(done["prompt_id"])
    check_talks(read_video(studio.saved_video(entry)), *EXPECTED[name])
