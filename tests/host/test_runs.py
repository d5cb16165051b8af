"""Runs one after the other in one host: repeated, changed, interrupted."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from tools.host_events import HostEvents

from .media import check_talks, read_video
from .workflows import add, change, only, small

BLOCK = 12
SCALED = {"width": 64, "height": 64, "crop": "disabled"}


def cached_types(entry: dict, workflow: dict) -> set[str]:
    """The types of the nodes that a run took from the host's cache."""
    (nodes,) = [data["nodes"] for kind, data in entry["status"]["messages"] if kind == "execution_cached"]
    return {workflow[node]["class_type"] for node in nodes}


def test_another_seed_runs_only_what_depends_on_it(ready):
    ready.run(small(seed=1))
    workflow = small(seed=2)
    entry = ready.run(workflow)
    every_type = {node["class_type"] for node in workflow.values()}
    assert every_type - cached_types(entry, workflow) == {"LiveAvatarSampler", "AvatarStreamToVideo"}


def run_types(entry: dict, workflow: dict) -> set[str]:
    """The types of the nodes that a run did not take from the host's cache."""
    return {node["class_type"] for node in workflow.values()} - cached_types(entry, workflow)


def loads(ready) -> int:
    """How often the host has brought the model to its computing device."""
    return ready.log().count("Requested to load WAN22_S2V")


def test_another_picture_runs_no_loader_and_no_audio_encoder(ready):
    ready.run(small(seed=11))
    workflow = small(seed=11)
    change(workflow, "LoadImage", image="face.png")
    entry = ready.run(workflow)
    changed = {"LoadImage", "LiveAvatarReferenceImage", "LiveAvatarSampler", "AvatarStreamToVideo"}
    assert run_types(entry, workflow) == changed


def test_another_sound_runs_no_loader_and_encodes_no_picture(ready):
    first = read_video(ready.video(small(seed=12, seconds=0)))
    workflow = small(seed=12, seconds=0)
    change(workflow, "LoadAudio", audio="speech_2.wav")
    entry = ready.run(workflow)
    changed = {"LoadAudio", "LiveAvatarEncodeSpeech", "LiveAvatarSampler", "AvatarStreamToVideo"}
    assert run_types(entry, workflow) == changed
    check_talks(read_video(ready.saved_video(entry)), (64, 64), 23, 44_100, 2)
    check_talks(first, (64, 64), 29, 24_000, 1)


def test_two_videos_in_the_queue_become_two_files_and_the_model_stays_loaded(ready):
    ready.run(small(seed=13))
    before = loads(ready)
    prompts = []
    for seed in (14, 15):
        workflow = small(seed=seed)
        change(workflow, "AvatarStreamToVideo", filename_prefix="queued/talk")
        prompts.append(ready.submit(workflow))
    entries = [ready.wait(prompt) for prompt in prompts]
    paths = [ready.saved_video(entry) for entry in entries]
    assert [path.name for path in paths] == ["talk_00001_.mp4", "talk_00002_.mp4"]
    one, other = (read_video(path).frames.astype(int) for path in paths)
    assert np.abs(one - other).mean() > 5
    assert loads(ready) == before


def test_another_workflow_in_between_leaves_the_video_the_same(ready):
    first = read_video(ready.video(small(seed=16)))
    picture = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "area", **SCALED}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "between"}},
    }
    ready.run(picture)
    workflow = small(seed=16)
    change(workflow, "AvatarStreamToVideo", filename_prefix="video/again")
    entry = ready.run(workflow)
    np.testing.assert_array_equal(read_video(ready.saved_video(entry)).frames, first.frames)


def test_the_same_seed_gives_the_same_video_after_a_run_of_another_size(ready):
    first = read_video(ready.video(small(seed=3)))
    other = small(seed=3)
    change(other, "LiveAvatarReferenceImage", width=128)
    check_talks(read_video(ready.video(other)), (128, 64), 8, 24_000, 1)
    again = read_video(ready.video(small(seed=3)))
    np.testing.assert_array_equal(again.frames, first.frames)
    changed = read_video(ready.video(small(seed=4)))
    assert np.abs(changed.frames.astype(int) - first.frames).mean() > 5


def test_an_interrupted_run_stops_within_a_block_and_keeps_what_it_made(ready):
    workflow = small(seconds=0)
    change(workflow, "AvatarStreamToVideo", filename_prefix="video/interrupted")
    sound = {"duration": 60.0, "sample_rate": 16_000, "channels": 1}
    workflow[only(workflow, "LoadAudio")] = {"class_type": "EmptyAudio", "inputs": sound}
    writer = only(workflow, "AvatarStreamToVideo")
    asked_at = 0

    with HostEvents(ready) as events:

        def interrupt_in_the_third_block() -> None:
            nonlocal asked_at
            node, done, _ = events.progress() or ("", 0, 0)
            if node == writer and done >= 2 * BLOCK and not asked_at:
                asked_at = done
                ready.interrupt()

        entry = ready.wait(ready.submit(workflow, events.client_id), watch=interrupt_in_the_third_block)
        previews = len(events.previews)
    assert ready.errors(entry) == [f"AvatarStreamToVideo (node {writer}): interrupted"]
    assert previews >= 2
    (path,) = (ready.output_dir / "video").glob("interrupted*.mp4")
    kept = read_video(path)
    # What was shown when the interrupt was asked for, at most one block that was on its way, and one in progress.
    assert asked_at <= len(kept.frames) <= asked_at + 2 * BLOCK
    check_talks(kept, (64, 64), len(kept.frames), 16_000, 1)
    check_talks(read_video(ready.video(small(seed=5))), (64, 64), 8, 24_000, 1)


def test_frames_that_are_read_by_a_node_are_shown_as_progress_of_the_node_that_makes_them(ready):
    """A preview on the node that reads them would lie over its result."""
    workflow = small(seconds=0.8, seed=47)
    stream = [only(workflow, "LiveAvatarSampler"), 0]
    del workflow[only(workflow, "AvatarStreamToVideo")]
    frames = add(workflow, "AvatarStreamToFrames", stream=stream, frames="stream")
    reader = add(workflow, "PreviewImage", images=[frames, 0])
    with HostEvents(ready) as events:
        entry = ready.wait(ready.submit(workflow, events.client_id))
        told = [data for kind, data in events.messages if kind == "progress"]
        states = [data["nodes"] for kind, data in events.messages if kind == "progress_state"]
    assert ready.errors(entry) == []
    assert [data["value"] for data in told if data["node"] == frames][-1] == 20
    assert not [data for data in told if data["node"] == reader]
    assert [nodes[frames]["state"] for nodes in states if frames in nodes][-1] == "finished"


def test_a_prefix_may_hold_the_date_and_values_of_nodes(ready):
    workflow = small(seed=41)
    prefix = "named/%date:yyyy%/%LiveAvatarSampler.seed%_%width%"
    change(workflow, "AvatarStreamToVideo", filename_prefix=prefix)
    path = ready.video(workflow)
    expected = ["named", time.strftime("%Y"), "41_64_00001_.mp4"]
    assert path.relative_to(ready.output_dir).parts == tuple(expected)


def test_another_date_in_the_name_makes_another_file_of_the_same_workflow(ready):
    workflow = small(seed=43)
    change(workflow, "AvatarStreamToVideo", filename_prefix="dated/%date:yyyyMMddhhmmss%")
    ready.run(workflow)
    time.sleep(1.1)
    ready.run(workflow)
    assert len({path.name for path in (ready.output_dir / "dated").iterdir()}) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove an open file")
def test_a_video_that_is_deleted_while_it_is_made_is_not_said_to_be_kept(ready):
    workflow = small(seed=42, seconds=0)
    change(workflow, "AvatarStreamToVideo", filename_prefix="deleted/talk")

    def delete() -> None:
        for path in (ready.output_dir / "deleted").glob("*.mp4"):
            if path.stat().st_size:
                path.unlink()

    entry = ready.wait(ready.submit(workflow), watch=delete)
    assert "was deleted while it was made; nothing of it is left" in ready.errors(entry)[0]
    assert not list((ready.output_dir / "deleted").iterdir())
