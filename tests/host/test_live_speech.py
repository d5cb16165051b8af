"""Speech that is posted, or written to a file, while the video is made in the real host."""

from __future__ import annotations

import json
import re
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tools.connection import HTTP, HostError
from tools.host import Host
from tools.host_events import HostEvents

from .browser import screenshot
from .media import tone
from .test_live_player import PLAYER, drop, look, opened, press_run, watch
from .workflows import Api, change, only, small

RATE = 24_000
SHOW_SPEECH = """
() => {
    const { graph, canvas } = window.app;
    canvas.centerOnNode(graph.nodes.find(({ type }) => type === "LiveAvatarLiveSpeech"));
    canvas.setDirty(true, true);
}
"""
ID = "a-test-that-speaks-"


@pytest.fixture
def talk(ready: Host, request: pytest.FixtureRequest) -> Iterator[Api]:
    """A run with live speech under an id of its own; stopped with the test."""
    workflow = small(seconds=0)
    name = request.node.name.split("[")[0]
    encoder = workflow[only(workflow, "LiveAvatarEncodeSpeech")]["inputs"]["audio_encoder"]
    del workflow[only(workflow, "LoadAudio")]
    workflow[only(workflow, "LiveAvatarEncodeSpeech")] = {
        "class_type": "LiveAvatarLiveSpeech",
        "inputs": {"audio_encoder": encoder, "max_seconds": 60.0, "sample_rate": str(RATE), "id": ID + name},
    }
    change(workflow, "AvatarStreamToVideo", filename_prefix=f"video/{name}")
    yield workflow
    ready.interrupt()


def place(workflow: Api) -> str:
    return f"/liveavatar/speech/{workflow[only(workflow, 'LiveAvatarLiveSpeech')]['inputs']['id']}"


def send(host: Host, path: str, body: bytes = b"") -> dict:
    """POST plain bytes; the status that comes back."""
    with HTTP.open(urllib.request.Request(host.url + path, body, method="POST"), timeout=30) as answer:
        return json.load(answer)


def refused(host: Host, path: str, body: bytes = b"") -> tuple[int, str]:
    """Number and text of the error that answers a POST."""
    with pytest.raises(urllib.error.HTTPError) as error:
        send(host, path, body)
    return error.value.code, error.value.read().decode()


def samples(seconds: float, pitch: float = 150, rate: int = RATE) -> bytes:
    return (tone(seconds, rate, 1, pitch)[:, 0] * 32767).astype("<i2").tobytes()


def until(condition: Callable[[], object], timeout: float = 60.0) -> object:
    """The first true value of a condition."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        time.sleep(0.05)
    raise AssertionError("This has not happened in time.")


def loudness(path: Path) -> tuple[np.ndarray, int]:
    """How loud a video's sound is in each of its frames, and how many frames there are."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        frames, parts = 0, []
        for frame in container.decode(*container.streams):
            if isinstance(frame, av.AudioFrame):
                parts.append(frame.to_ndarray()[0])
            else:
                frames += 1
    sound = np.concatenate(parts)
    sound = sound[: len(sound) // (rate // 25) * (rate // 25)]
    return np.abs(sound.reshape(-1, rate // 25)).max(axis=1), frames


def test_posted_speech_is_spoken_while_the_run_goes_on_with_silence_between(ready, talk):
    path = place(talk)
    video = ready.output_dir / "video"
    prompt = ready.submit(talk)
    until(lambda: ready.get(path)["spoken_seconds"] > 1)  # idle from the first block on
    (growing,) = video.glob("test_posted_speech_*.mp4")
    before = growing.stat().st_size
    send(ready, path + f"?rate={RATE}", samples(1.0))
    send(ready, path + f"?rate={RATE}", samples(1.0))
    until(lambda: ready.get(path)["waiting_seconds"] == 0)
    spoken = ready.get(path)["spoken_seconds"]
    until(lambda: ready.get(path)["spoken_seconds"] > spoken + 1)
    assert growing.stat().st_size > before
    # As a file of another rate, dropped in favour of a shorter one before it is spoken.
    send(ready, path + "?rate=48000&channels=2&format=f32", tone(8, 48_000, 2).astype("<f4").tobytes())
    send(ready, path + "?rate=16000&replace=1", samples(0.5, rate=16_000))
    status = send(ready, path + "/end")
    assert status["ended"] and status["sample_rate"] == RATE
    code, said = refused(ready, path + f"?rate={RATE}", samples(0.1))
    assert (code, said) in ((410, "This speech has ended."), (404, "No speech with this id is running."))
    entry = ready.wait(prompt)
    assert ready.errors(entry) == []
    loud, frames = loudness(ready.saved_video(entry))
    assert abs(len(loud) - frames) <= 1
    spoken_frames = (loud > 0.02).sum()
    assert 40 <= spoken_frames < 75 + 8  # 2 s and 0.5 s, but not the 8 s
    first, last = np.flatnonzero(loud > 0.02)[[0, -1]]
    assert first > 20  # silence came first
    assert (loud[first:last] < 0.005).sum() > 20  # and between
    assert 3 <= frames - last <= 30  # and at the end, in which the mouth closes
    assert refused(ready, path, b"x")[0] == 404


def test_silence_keeps_to_real_time_and_an_interrupt_ends_it(ready, talk):
    path = place(talk)
    prompt = ready.submit(talk)
    until(lambda: ready.get(path)["spoken_seconds"] > 0.5)
    begun, since = ready.get(path)["spoken_seconds"], time.monotonic()
    until(lambda: ready.get(path)["spoken_seconds"] >= begun + 2)
    assert time.monotonic() - since > 1.4
    ready.interrupt()
    asked = time.monotonic()
    entry = ready.wait(prompt)
    assert time.monotonic() - asked < 5
    assert ready.errors(entry)[0].endswith("interrupted")
    assert refused(ready, path, b"x") == (404, "No speech with this id is running.")


def test_speech_for_a_run_that_failed_before_its_first_block_is_not_taken(ready, talk):
    change(talk, "LiveAvatarSampler", max_seconds=1.0)
    with pytest.raises(HostError, match="live speech ends by its own max_seconds"):
        ready.run(talk)
    gone = (404, "No speech with this id is running.")
    for path in (place(talk), place(talk) + "/end"):
        assert refused(ready, path, samples(0.1)) == gone


def test_wrong_posts_are_refused_in_one_sentence(ready, talk):
    path = place(talk)
    ready.submit(talk)
    until(lambda: ready.get(path))
    for query, body, code, part in (
        ("?rate=7999", b"\0\0", 400, "rate must be a number from 8000 to 96000, not 7999."),
        ("?rate=24000&channels=65", b"\0\0", 400, "channels must be"),
        ("?rate=24000&format=s8", b"\0\0", 400, "format must be s16 or f32"),
        ("?rate=24000", b"\0\0\0", 400, "3 bytes are no whole number of s16 samples"),
        ("?rate=24000&format=f32", struct.pack("<f", float("nan")), 400, "NaN"),
        ("", b"#EXTM3U\nfile:///etc/passwd\n", 400, "no WAV, FLAC"),
        ("", b"RIFF", 400, "cannot be read as audio"),
        ("", b"", 400, "no sound in this request"),
        ("?rate=8000", bytes(2 * 8000 * 301), 413, "would exceed 300 s"),
        ("?rate=8000", bytes(33 << 20), 413, "32 MB"),
    ):
        assert (found := refused(ready, path + query, body))[0] == code and part in found[1], found
    # Full only after something waits.
    send(ready, path + "?rate=8000", bytes(2 * 8000 * 299))
    code, said = refused(ready, path + "?rate=8000", bytes(2 * 8000 * 10))
    assert code == 429 and "are waiting to be spoken" in said
    assert refused(ready, "/liveavatar/speech/unknown-unknown-unknown", b"x")[0] == 404


def test_the_page_that_started_the_run_learns_a_secret_id_and_only_that_page(ready, talk):
    change(talk, "LiveAvatarLiveSpeech", id="", max_seconds=1.5)
    with HostEvents(ready) as events, HostEvents(ready) as others:
        entry = ready.wait(ready.submit(talk, events.client_id))
        told = [data for kind, data in events.messages if kind == "liveavatar.speech"]
        assert not [kind for kind, _ in others.messages if kind == "liveavatar.speech"]
        assert not any(told[0]["id"].encode() in message for message in others.previews)
    assert ready.errors(entry) == []
    assert len(told) == 1 and len(told[0]["id"]) >= 20
    assert told[0]["node"] == only(talk, "LiveAvatarLiveSpeech")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"id": "short"}, "give it 16 to 128 letters"),
        ({"id": "", "file": "../../etc/passwd"}, "Name a file inside ComfyUI's input folder"),
        ({"id": "", "file": "nowhere.wav"}, "no sound file"),
    ],
)
def test_ids_and_files_are_checked(ready, talk, inputs, said):
    change(talk, "LiveAvatarLiveSpeech", **inputs)
    with pytest.raises(HostError, match=said):
        ready.run(talk)


def test_nodes_that_need_a_length_say_so(ready, talk):
    change(talk, "LiveAvatarSampler", max_seconds=3.0)
    with pytest.raises(HostError, match="Set max_seconds of LiveAvatar Sampler to 0"):
        ready.run(talk)
    change(talk, "LiveAvatarSampler", max_seconds=0.0)
    for frames in ("batch", "stream"):
        talk[only(talk, "LiveAvatarSampler")]["inputs"]["seed"] += 1
        for old in ("AvatarStreamToVideo", "AvatarStreamToFrames", "PreviewImage"):
            talk = {number: node for number, node in talk.items() if node["class_type"] != old}
        stream = [only(talk, "LiveAvatarSampler"), 0]
        talk["90"] = {
            "class_type": "AvatarStreamToFrames",
            "inputs": {"stream": stream, "frames": frames},
        }
        talk["91"] = {"class_type": "PreviewImage", "inputs": {"images": ["90", 0]}}
        with pytest.raises(HostError, match="nobody knows its length yet"):
            ready.run(talk)


def test_a_growing_file_of_another_rate_is_spoken_until_its_header_is_completed(ready, talk):
    path = ready.input_dir / "grows.wav"
    head = (
        b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22_050, 44_100, 2, 16) + b"data"
    )
    sound = samples(2.4, rate=22_050)
    path.write_bytes(head + struct.pack("<I", 0xFFFFFFFF) + sound[:22_050])
    change(talk, "LiveAvatarLiveSpeech", id="", file="grows.wav", file_rests=60.0)
    prompt = ready.submit(talk)
    video = ready.output_dir / "video"
    until(lambda: list(video.glob("test_a_growing_file_*.mp4")))
    time.sleep(1)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(sound[22_050:])
        file.seek(len(head))
        file.write(struct.pack("<I", len(sound)))
    entry = ready.wait(prompt)
    assert ready.errors(entry) == []
    with av.open(str(ready.saved_video(entry))) as container:
        assert container.streams.audio[0].rate == 48_000
    loud, frames = loudness(ready.saved_video(entry))
    assert 50 <= (loud > 0.02).sum() <= 62 and frames >= 60


def test_the_page_plays_close_behind_what_is_spoken(ready, browser, talk, tmp_path):
    path = place(talk)
    with opened(browser) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        watch(page, lambda state: state["time"] > 4)
        send(ready, path + f"?rate={RATE}", samples(2))
        spoken = ready.get(path)["spoken_seconds"]
        heard = watch(page, lambda state: state["time"] > spoken + 1)
        look(page, "live-speech")
        assert heard["ended"] is None and heard["sounds"]
        assert " of " not in heard["line"]  # nobody knows how long it will be
        behind = ready.get(path)["spoken_seconds"] - page.evaluate(PLAYER)["time"]
        print(f"The page is {behind:.2f} s behind.")
        assert behind < 4
        send(ready, path + "/end")
        watch(page, lambda state: state["ended"] == "execution_success" and "finished" in state["line"])


def test_one_can_speak_from_the_page(ready, browser, talk, tmp_path):
    """With a microphone that beeps."""
    change(talk, "LiveAvatarLiveSpeech", id="")
    with opened(browser) as page:
        complaints = []
        page.on("console", lambda line: "liveavatar" in line.text.lower() and complaints.append(line.text))
        drop(page, talk, tmp_path)
        press_run(page)
        panel = page.locator(".liveavatar-speech")
        panel.wait_for(timeout=60_000)
        watch(page, lambda state: state["time"] > 1)
        address = panel.locator("output").inner_text()
        path = address.removeprefix(ready.url)
        assert address.startswith(ready.url) and re.fullmatch(r"(/api)?/liveavatar/speech/[\w-]{20,}", path)
        switched = time.monotonic()
        panel.get_by_text("Microphone").click()
        begun = ready.get(path)["spoken_seconds"]
        until(lambda: ready.get(path)["spoken_seconds"] > begun + 4)
        page.evaluate(SHOW_SPEECH)
        page.wait_for_timeout(500)
        screenshot(page, "live-microphone")
        panel.get_by_text("Microphone").click()
        on = time.monotonic() - switched
        panel.get_by_text("End").click()
        watch(page, lambda state: state["ended"] == "execution_success")
        assert not panel.is_visible()
        assert complaints == []
    (video,) = (ready.output_dir / "video").glob("test_one_can_speak_*.mp4")
    loud, _ = loudness(video)
    # About two beeps a second, as long as the microphone was on.
    assert 4 <= (np.diff((loud > 0.02).astype(int)) == 1).sum() <= 4 + 2 * on
