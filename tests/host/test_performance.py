"""The performance choices in a real ComfyUI: each makes a video, or says in one sentence what it needs."""

from __future__ import annotations

import pytest

from tools.connection import HostError
from tools.host import Host
from tools.host_events import HostEvents

from .media import check_talks, read_video
from .workflows import Api, add, change, small


def options(workflow: Api, **chosen: object) -> Api:
    inputs = {
        "precision": "auto",
        "caches": "auto",
        "attention": "auto",
        "caches_in_cpu_memory": -1,
        "blocks_in_cpu_memory": -1,
        "last_step": "forward",
        "gpus": "one",
        "graphs": "auto",
    }
    node = add(workflow, "LiveAvatarPerformanceOptions", **{**inputs, **chosen})
    change(workflow, "LiveAvatarSampler", options=[node, 0])
    return workflow


def talks(ready: Host, workflow: Api) -> None:
    check_talks(read_video(ready.video(workflow)), (64, 64), 8, 24_000, 1)


@pytest.mark.parametrize("performance", ["auto", "quality", "balanced", "low memory"])
def test_every_choice_that_a_cpu_has_makes_a_video(ready: Host, performance: str):
    talks(ready, small(performance=performance, seed=len(performance)))


def test_options_make_a_video(ready: Host):
    talks(ready, options(small(seed=3), precision="model", caches="8 bit"))


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"precision": "fp8"}, "fp8 need an NVIDIA GPU of the Ada generation or newer"),
        ({"caches_in_cpu_memory": 2}, "help a GPU only"),
        ({"blocks_in_cpu_memory": 2}, "help a GPU only"),
        ({"attention": "8 bit"}, "8 bits needs an NVIDIA GPU"),
        ({"gpus": "2"}, "Set gpus to 'all' or 'one': 2 GPUs are asked for"),
        ({"graphs": "on"}, "Set graphs to 'auto': CUDA graphs need an NVIDIA GPU"),
        ({"attention": "8 bit", "caches": "model"}, "needs caches in 8 bits; set caches to auto"),
        (None, "choose 'auto' or 'balanced'"),
    ],
    ids=str,
)
def test_what_needs_a_gpu_is_said_in_one_sentence(ready: Host, chosen: dict | None, sentence: str):
    workflow = small(performance="fast") if chosen is None else options(small(), **chosen)
    with pytest.raises(HostError, match=sentence) as error:
        ready.run(workflow)
    assert "Traceback" not in str(error.value)


def test_the_last_step_can_be_left_out(ready: Host):
    talks(ready, options(small(seed=4), last_step="skip"))
    with pytest.raises(HostError, match="Choose 2 steps or more, or keep the last one"):
        ready.run(options(small(seed=4, steps=1), last_step="skip"))


def test_options_left_alone_change_nothing(ready: Host):
    videos = [read_video(ready.video(workflow)) for workflow in (small(seed=9), options(small(seed=9)))]
    assert (videos[0].frames == videos[1].frames).all()


def told(ready: Host, workflow: Api) -> bytes:
    """Everything that nodes say during a run."""
    with HostEvents(ready) as events:
        entry = ready.wait(ready.submit(workflow, events.client_id))
        assert ready.errors(entry) == []
        return b"\n".join(events.previews)


def test_the_loader_writes_a_float8_copy_only_where_one_is_used_and_deletes_what_is_there(ready: Host):
    folder = ready.models_dir / "liveavatar_float8"
    folder.mkdir(exist_ok=True)
    copies, other = [folder / f"{name}.float8.safetensors" for name in "ab"], folder / "own.safetensors"
    for path in (*copies, other):
        path.write_bytes(b"x")
    workflow = small(seed=21)
    change(workflow, "LiveAvatarLoadCheckpoint", float8_copy="on")
    assert b"No float8 copy is kept: this computer multiplies no float8 matrices." in told(ready, workflow)
    assert sorted(folder.iterdir()) == [*copies, other]
    change(workflow, "LiveAvatarLoadCheckpoint", float8_copy="delete")
    assert b"2 float8 copies deleted, 0.0 GB." in told(ready, workflow)
    assert sorted(folder.iterdir()) == [other]
    change(workflow, "LiveAvatarLoadCheckpoint", float8_copy="../..")
    with pytest.raises(HostError, match="choose another float8_copy than"):
        ready.run(workflow)
