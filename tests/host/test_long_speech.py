"""Speech that is longer than the audio encoder's window, in the real host."""

from __future__ import annotations

import numpy as np
import pytest

from tools.connection import HostError

from .browser import screenshot
from .media import check_talks, read_video, tone, write_wav
from .workflows import Api, add, between, change, only, small


def test_long_speech_from_a_file_and_from_load_audio_give_the_same_video(ready):
    write_wav(ready.input_dir / "long.wav", tone(150, 22_050, 2), 22_050)
    videos = []
    for loader in ("LoadAudio", "LiveAvatarLoadSpeechFile"):
        workflow = small(seconds=1.2, seed=5)
        workflow[only(workflow, "LoadAudio")] = {"class_type": loader, "inputs": {"audio": "long.wav"}}
        change(workflow, "AvatarStreamToVideo", filename_prefix=f"video/long_{loader}")
        videos.append(read_video(ready.video(workflow)))
    for video in videos:
        check_talks(video, (64, 64), 30, 22_050, 2)
    np.testing.assert_array_equal(videos[0].frames, videos[1].frames)


def speech_file(name: str, seconds: float) -> Api:
    """The small run, on a speech file."""
    workflow = small(seconds)
    workflow[only(workflow, "LoadAudio")] = {
        "class_type": "LiveAvatarLoadSpeechFile",
        "inputs": {"audio": name},
    }
    return workflow


@pytest.mark.parametrize("channels", [8, 16])
def test_a_file_of_many_channels_is_spoken(ready, channels):
    write_wav(ready.input_dir / "many.wav", tone(0.32, 24_000, 1).repeat(channels, axis=1), 24_000)
    check_talks(read_video(ready.video(speech_file("many.wav", 0.32))), (64, 64), 8, 24_000, 1)


@pytest.mark.parametrize("saver", ["SaveAudio", "SaveAudioMP3", "SaveAudioOpus", "PreviewAudio"])
def test_channels_that_the_host_has_split_can_be_spoken_and_saved(ready, saver):
    write_wav(ready.input_dir / "both.wav", tone(0.32, 24_000, 2), 24_000)
    workflow = speech_file("both.wav", 0.32)
    split = between(workflow, "LiveAvatarEncodeSpeech", "audio", "SplitAudioChannels", "audio")
    inputs = {} if saver == "PreviewAudio" else {"filename_prefix": "audio/split"}
    add(workflow, saver, audio=[split, 1], **inputs)
    check_talks(read_video(ready.video(workflow)), (64, 64), 8, 24_000, 1)


PLACE = """
(type) => {
    const node = window.LiteGraph.createNode(type);
    window.app.graph.add(node);
    node.widgets.find(({ name }) => name === "audio").value = "speech.wav";
    node.widgets.find(({ name }) => name === "audio").callback("speech.wav");
    return node.widgets.map(({ name }) => name);
}
"""
PLAYED = """
(type) => window.app.graph.nodes.find((node) => node.type === type)
    .widgets.find(({ name }) => name === "audioUI").element.src
"""
AGAIN = """
async () => {
    await window.app.loadGraphData(window.app.graph.serialize());
    return (await window.app.graphToPrompt()).output;
}
"""


def test_the_node_can_be_placed_on_the_page_as_load_audio_can(ready, browser):
    with browser.page_with_graph("LiveAvatarLoadSpeechFile") as page:
        widgets = page.evaluate(PLACE, "LiveAvatarLoadSpeechFile")
        assert widgets == page.evaluate(PLACE, "LoadAudio") == ["audio", "audioUI", "upload"]
        assert "filename=speech.wav" in page.evaluate(PLAYED, "LiveAvatarLoadSpeechFile")
        sent = {node["class_type"]: node["inputs"] for node in page.evaluate(AGAIN).values()}
        assert sent["LiveAvatarLoadSpeechFile"] == sent["LoadAudio"]
        assert sent["LoadAudio"]["audio"] == "speech.wav"
        assert "filename=speech.wav" in page.evaluate(PLAYED, "LiveAvatarLoadSpeechFile")
        screenshot(page, "speech_file")
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []


def test_a_file_that_is_gone_is_refused_before_the_run(ready):
    workflow = small()
    workflow[only(workflow, "LoadAudio")] = {
        "class_type": "LiveAvatarLoadSpeechFile",
        "inputs": {"audio": "nowhere.wav"},
    }
    with pytest.raises(HostError, match=r"Choose another file: there is no 'nowhere\.wav'"):
        ready.submit(workflow)
