"""A run that ends early, and the same run again: killed, stopped, left by its page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gone_on import check_gone_on
from tools.connection import HostError
from tools.host_events import HostEvents

from .client import Host
from .media import Video, check_talks, make_inputs, read_video, tone, write_wav
from .models import install_tiny_models
from .workflows import Api, change, small

WRITER = "AvatarStreamToVideo"
SECONDS, FRAMES = 6, 150


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that may be killed."""
    running = Host(tmp_path_factory.mktemp("resume"))
    install_tiny_models(running.models_dir)
    with running:
        make_inputs(running.input_dir)
        write_wav(running.input_dir / "long.wav", tone(SECONDS, 44_100, 2), 44_100)
        yield running


def talk(name: str, **writer: Any) -> Api:
    workflow = small(seconds=0.0, steps=2)
    change(workflow, "LoadAudio", audio="long.wav")
    change(workflow, WRITER, filename_prefix=f"{name}/talk", **writer)
    return workflow


def files(host: Host, name: str) -> list[str]:
    return sorted(path.name for path in (host.output_dir / name).iterdir())


def until(host: Host, events: HostEvents, frames: int) -> None:
    """Wait until the writer has so many frames."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for kind, data in events.messages:
            if kind == "liveavatar.stream" and data["frames"] >= frames:
                return
        time.sleep(0.05)
    raise AssertionError(f"{frames} frames were not reached:\n{host.log()[-2000:]}")


def stop(host: Host, workflow: Api, frames: int) -> None:
    with HostEvents(host) as events:
        prompt = host.submit(workflow, events.client_id)
        until(host, events, frames)
        host.interrupt()
        assert "interrupted" in host.errors(host.wait(prompt))[0]


@pytest.fixture(scope="module")
def whole(own_host: Host) -> Video:
    """The video of a run that nothing disturbs."""
    return read_video(own_host.video(talk("whole", resume=False)))


def test_a_killed_host_leaves_a_video_that_it_goes_on_with_when_it_is_back(own_host, whole):
    workflow = talk("killed")
    with HostEvents(own_host) as events:
        own_host.submit(workflow, events.client_id)
        until(own_host, events, 45)
    own_host.process.kill()
    own_host.process.wait()
    path = own_host.output_dir / "killed" / "talk_00001_.mp4"
    kept = read_video(path)
    journal = json.loads(path.with_name(path.name + ".resume.json").read_text())
    assert len(kept.frames) == journal["frames"] >= 45
    check_talks(kept, (64, 64), len(kept.frames), 44_100, 2)

    own_host.start()
    assert own_host.video(workflow) == path
    finished = read_video(path)
    np.testing.assert_array_equal(finished.frames[: len(kept.frames)], kept.frames)
    check_gone_on(finished.frames, whole.frames, len(kept.frames))
    check_talks(finished, (64, 64), FRAMES, 44_100, 2)
    assert files(own_host, "killed") == [path.name]


def test_a_stopped_run_goes_on_at_once_from_its_snapshot(own_host, whole):
    workflow = talk("stopped")
    stop(own_host, workflow, 45)
    path = own_host.output_dir / "stopped" / "talk_00001_.mp4"
    kept = len(read_video(path).frames)
    assert 45 <= kept < FRAMES and b"moof" not in path.read_bytes()
    assert path.with_name(path.name + ".resume.safetensors").is_file()
    with HostEvents(own_host) as events:
        entry = own_host.wait(own_host.submit(workflow, events.client_id))
        reached = [
            data["value"] for kind, data in events.messages if kind == "progress" and data["max"] == FRAMES
        ]
        told = [data["frames"] for kind, data in events.messages if kind == "liveavatar.stream"]
    assert own_host.saved_video(entry) == path
    assert min(value for value in reached if value) > kept, "nothing is generated twice"
    assert sorted({frames for frames in told if frames})[0] == kept + 12
    check_gone_on(read_video(path).frames, whole.frames, kept)
    assert files(own_host, "stopped") == [path.name]


def test_without_a_snapshot_the_beginning_is_generated_again(own_host, whole):
    workflow = talk("replayed", snapshot_gb=0)
    stop(own_host, workflow, 21)
    assert not list((own_host.output_dir / "replayed").glob("*.safetensors"))
    path = own_host.video(workflow)
    check_gone_on(read_video(path).frames, whole.frames, 21)
    assert files(own_host, "replayed") == ["talk_00001_.mp4"]


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [
        ("LiveAvatarSampler", {"seed": 8}),
        ("LoadAudio", {"audio": "speech_2.wav"}),
        ("LoadImage", {"image": "face.png"}),
        ("LiveAvatarLoadCheckpoint", {"lora_strength": 0.5}),
        ("CLIPTextEncode", {"text": "Another prompt."}),
        (WRITER, {"crf": 30}),
        (WRITER, {"resume": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_another_video_begins_a_file_of_its_own(own_host, type_, inputs, request):
    name = request.node.callspec.id
    workflow = talk(name)
    change(workflow, "LiveAvatarSampler", max_seconds=2.0)
    stop(own_host, workflow, 9)
    before = (own_host.output_dir / name / "talk_00001_.mp4").read_bytes()
    other = talk(name)
    change(other, "LiveAvatarSampler", max_seconds=2.0)
    change(other, type_, **inputs)
    assert own_host.video(other).name == "talk_00002_.mp4"
    assert (own_host.output_dir / name / "talk_00001_.mp4").read_bytes() == before
    assert own_host.video(workflow).name == "talk_00001_.mp4"


def test_a_closed_page_does_not_end_the_run(own_host):
    workflow = talk("closed")
    with HostEvents(own_host) as events:
        prompt = own_host.submit(workflow, events.client_id)
        until(own_host, events, 9)
    entry = own_host.wait(prompt)
    assert not own_host.errors(entry)
    check_talks(read_video(own_host.saved_video(entry)), (64, 64), FRAMES, 44_100, 2)


def test_a_full_disk_keeps_whole_blocks_says_so_and_the_run_goes_on(own_host, whole):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("needs Linux, to limit the files of another process")
    workflow = talk("full", snapshot_gb=0)
    limit = whole_size(own_host) // 2
    usual = resource.prlimit(own_host.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with pytest.raises(
            HostError, match=r"Cannot go on writing the video .* frames\) are kept there and play"
        ):
            own_host.run(workflow)
    finally:
        resource.prlimit(own_host.process.pid, resource.RLIMIT_FSIZE, usual)
    path = own_host.output_dir / "full" / "talk_00001_.mp4"
    kept = len(read_video(path).frames)
    assert 0 < kept < FRAMES
    assert own_host.video(workflow) == path
    check_gone_on(read_video(path).frames, whole.frames, kept)


def whole_size(host: Host) -> int:
    (path,) = (host.output_dir / "whole").glob("*.mp4")
    return Path(path).stat().st_size
