"""Portraits that are made ready, moods and backgrounds in the real host."""

from __future__ import annotations

import json
import struct
import time
import urllib.request

import numpy as np
import pytest

from tools.connection import HTTP, HostError
from tools.host import Host

from .media import check_talks, read_video
from .workflows import Api, add, between, change, every, only, small

GREEN = (0, 177, 64)


def mask(workflow: Api, value: float, width: int, height: int) -> list:
    return [add(workflow, "SolidMask", value=value, width=width, height=height), 0]


def oval(workflow: Api, width: int, height: int) -> list:
    """A mask with a face in its middle."""
    part = mask(workflow, 1.0, width // 3, height // 3)
    whole = mask(workflow, 0.0, width, height)
    placed = {"x": width // 3, "y": height // 4, "operation": "add"}
    return [add(workflow, "MaskComposite", destination=whole, source=part, **placed), 0]


def prepared(workflow: Api, **inputs: object) -> str:
    """Put Prepare Portrait in front of the reference; its id."""
    usual = {"width": 64, "height": 64, "head": 0.5, "headroom": 0.1, "light": 0.5, "level": True}
    return between(
        workflow, "LiveAvatarReferenceImage", "image", "AvatarPreparePortrait", "image", **usual | inputs
    )


def test_a_prepared_portrait_talks_and_its_faults_are_a_text(ready: Host):
    workflow = small(seconds=0.32)
    node = prepared(
        workflow, face=oval(workflow, 256, 512), vae=[only(workflow, "LiveAvatarLoadCheckpoint"), 2]
    )
    shown = add(workflow, "PreviewAny", source=[node, 1])
    entry = ready.run(workflow)
    check_talks(read_video(ready.saved_video(entry)), (64, 64), 8, 24_000, 1)
    (said,) = entry["outputs"][shown]["text"]
    lines = said.splitlines()
    assert lines and all(line.endswith(".") and len(line) < 120 for line in lines), said
    assert lines[-1].startswith("Switch level off, or disconnect face"), said


def test_an_empty_face_mask_is_refused_in_one_sentence(ready: Host):
    workflow = small()
    prepared(workflow, face=mask(workflow, 0.0, 256, 512))
    with pytest.raises(HostError, match="Paint over the face, or disconnect the face mask"):
        ready.run(workflow)


def test_a_batch_of_portraits_says_which_one_shows_no_face(ready: Host):
    workflow = small()
    whole, none = mask(workflow, 1.0, 256, 512), mask(workflow, 0.0, 256, 512)
    masks = []
    for part in (whole, none):
        masks.append([add(workflow, "MaskToImage", mask=part), 0])
    two = [add(workflow, "ImageBatch", image1=masks[0], image2=masks[1]), 0]
    node = prepared(workflow, face=[add(workflow, "ImageToMask", image=two, channel="red"), 0])
    (portrait,) = every(workflow, "LoadImage")
    both = {"image1": [portrait, 0], "image2": [portrait, 0]}
    workflow[node]["inputs"]["image"] = [add(workflow, "ImageBatch", **both), 0]
    with pytest.raises(HostError, match="Picture 2: Paint over the face, or disconnect the face mask"):
        ready.run(workflow)


def test_a_background_lies_behind_the_mask_and_a_stopped_video_knows_it(ready: Host):
    workflow = small(seconds=0.8)
    left = mask(workflow, 1.0, 32, 64)
    whole = mask(workflow, 0.0, 64, 64)
    placed = {"x": 0, "y": 0, "operation": "add"}
    person = [add(workflow, "MaskComposite", destination=whole, source=left, **placed), 0]
    between(
        workflow, "AvatarStreamToVideo", "stream", "AvatarBackground", "stream", colour="#00b140", mask=person
    )
    video = read_video(ready.video(workflow))
    ground = video.frames[:, 8:-8, 40:-8].reshape(-1, 3).mean(0)
    assert np.abs(ground - GREEN).max() < 12, ground
    assert video.frames[:, 8:-8, 8:24].reshape(-1, 3).std(0).min() > 5


def moods(workflow: Api, times: str, name: str = "happy") -> None:
    clip = [only(workflow, "LiveAvatarLoadCheckpoint"), 1]
    merry = add(workflow, "LiveAvatarPromptPreset", **preset("happy"))
    prompt = add(workflow, "CLIPTextEncode", clip=clip, text=[merry, 0])
    mood = add(workflow, "LiveAvatarMood", positive=[prompt, 0], name=name, times=times)
    change(workflow, "LiveAvatarSampler", moods=[mood, 0])


def preset(emotion: str) -> dict[str, str]:
    return {
        **{"who": "A person", "clothes": "", "place": "", "emotion": emotion, "energy": "natural"},
        **{"head": "natural", "hands": "at rest", "gaze": "at the camera", "shot": "head"},
        **{"light": "soft", "style": "photograph"},
    }


def test_a_mood_changes_the_video_from_its_time_on(ready: Host):
    calm, merry = small(seconds=1.0, seed=11), small(seconds=1.0, seed=11)
    moods(merry, "0.4-")
    plain, changed = (read_video(ready.video(workflow)) for workflow in (calm, merry))
    difference = np.abs(plain.frames.astype(int) - changed.frames).mean((1, 2, 3))
    assert difference[:9].max() < 1.0 < difference[12:].max(), difference


@pytest.mark.parametrize(
    ("name", "times", "said"),
    [
        ("happy", "", "Write times into the mood happy"),
        ("neutral", "1-", "Choose another name"),
        ("happy", "2-1", "as in 2-4.5, 8-"),
    ],
)
def test_a_mood_that_cannot_be_is_refused_in_one_sentence(ready: Host, name: str, times: str, said: str):
    workflow = small()
    moods(workflow, times, name)
    with pytest.raises(HostError, match=said):
        ready.run(workflow)


def test_live_speech_changes_the_mood(ready: Host):
    workflow, id_ = small(seconds=0), "a-test-with-moods-"
    moods(workflow, "")
    encoder = workflow[only(workflow, "LiveAvatarEncodeSpeech")]["inputs"]["audio_encoder"]
    del workflow[only(workflow, "LoadAudio")]
    workflow[only(workflow, "LiveAvatarEncodeSpeech")] = {
        "class_type": "LiveAvatarLiveSpeech",
        "inputs": {"audio_encoder": encoder, "max_seconds": 20.0, "sample_rate": "24000", "id": id_},
    }
    change(workflow, "AvatarStreamToVideo", filename_prefix="video/moods")
    prompt = ready.submit(workflow)
    address = f"/liveavatar/speech/{id_}"
    try:
        deadline = time.monotonic() + 60
        while not (told := status(ready, address)).get("moods"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert (told["moods"], told["mood"]) == (["neutral", "happy"], "")
        sound = struct.pack("<24000h", *([8000, -8000] * 12_000))
        send(ready, f"{address}?rate=24000&mood=happy", sound)
        while (told := status(ready, address))["mood"] != "happy":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        send(ready, f"{address}?mood=neutral")
        send(ready, f"{address}/end")
        ready.wait(prompt)
    finally:
        ready.interrupt()


def status(host: Host, path: str) -> dict:
    try:
        with HTTP.open(host.url + path, timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return {}


def send(host: Host, path: str, body: bytes = b"") -> dict:
    with HTTP.open(urllib.request.Request(host.url + path, body, method="POST"), timeout=30) as answer:
        return json.load(answer)
