"""Ditto in the host: a photograph, or a video, says a speech that is there or arrives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tools.environment import ROOT
from tools.host import Host, HostError
from tools.tiny_ditto import photograph as photograph_of
from tools.tiny_ditto import write_tiny_ditto

from .browser import drop_workflow, queue_and_wait, screenshot
from .conftest import VUE_NODES, Site
from .media import check_talks, read_video
from .test_page import PLAYED, SET_WIDGETS, USE_SMALL_FILES, wiring
from .test_pages import overlaps
from .test_personalive import skip_without_vhs, write_driving
from .workflows import Api, between, change, every, put, shipped, tiny, ui_file

pytest.importorskip("onnxruntime")
graphs = pytest.importorskip("tools.tiny_ditto_graphs")

SIZE = (240, 320)
FRAMES = 8
LIVE = "ditto_live_speech"
TINY = {
    "DittoLoadModel": {"checkpoint": "tiny"},
    "DittoPortrait": {"max_size": SIZE[1]},
    "DittoAnimate": {"max_seconds": FRAMES / 25, "steps": 2},
    "LiveAvatarLiveSpeech": {"max_seconds": 0.6},
}
# name -> size, number of frames, sample rate and channels of the sound
EXPECTED = {
    "ditto": (SIZE, FRAMES, 24_000, 1),
    "ditto_core": (SIZE, FRAMES, 24_000, 1),
    LIVE: (SIZE, 15, 48_000, 1),
    "ditto_source_video": (SIZE, FRAMES, 24_000, 1),
}
photograph = partial(photograph_of, size=SIZE)


@pytest.fixture(scope="module")
def studio(ready: Host) -> Iterator[Host]:
    """The host with the tiny Ditto, whole and incomplete, and meanwhile with pictures of faces."""
    own = {path: path.read_bytes() for path in ready.input_dir.iterdir() if path.is_file()}
    models = ready.models_dir / "ditto"
    graphs.write_graphs(write_tiny_ditto(models / "tiny"))
    shutil.copytree(models / "tiny", models / "deaf")
    next((models / "deaf").rglob("hubert*.onnx")).unlink()
    shutil.copytree(models / "tiny", models / "half")
    graph = next((models / "half").rglob("face_mesh.onnx"))
    graph.write_bytes(graph.read_bytes()[:1000])
    shutil.copytree(models / "tiny", models / "other-settings")
    next((models / "other-settings").rglob("*.pkl")).write_bytes(b"nothing")
    for name in ("portrait.png", "portrait_2.png"):
        photograph((120, 150, 50)).save(ready.input_dir / name)
    photograph().save(ready.input_dir / "nobody.png")
    photograph((60, 160, 40), (180, 160, 40)).save(ready.input_dir / "two.png")
    photograph((900, 1200, 500), size=(2000, 3000)).save(ready.input_dir / "huge.png")
    walking = [np.asarray(photograph((100 + 4 * i, 150, 50))) for i in range(6)]
    write_driving(ready.input_dir / "driving.mp4", walking)
    write_driving(ready.input_dir / "leaving.mp4", [*walking[:3], *[np.asarray(photograph())] * 3])
    yield ready
    for path, data in own.items():
        path.write_bytes(data)


def small(name: str = "ditto_core") -> Api:
    """A shipped workflow on the tiny checkpoint."""
    workflow = tiny(name)
    for type_, inputs in TINY.items():
        for node in every(workflow, type_):
            for key, value in inputs.items():
                if not (name == LIVE and key == "max_seconds" and type_ == "DittoAnimate"):
                    workflow[node]["inputs"][key] = value
    return workflow


def check_speaks(path: Path, name: str) -> None:
    """Assert size, length and sound of a workflow's video, and that it moves; of silence, that it is there."""
    video = read_video(path)
    if name != LIVE:
        check_talks(video, *EXPECTED[name])
        return
    size, frames, rate, channels = EXPECTED[name]
    assert (video.size, len(video.frames)) == (size, frames)
    assert (video.audio_rate, video.audio_channels) == (rate, channels)
    assert abs(video.audio_seconds - frames / 25) <= 1024 / rate
    assert np.abs(np.diff(video.frames.astype(int), axis=0)).max() > 0


@pytest.mark.parametrize("name", EXPECTED)
def test_a_shipped_workflow_makes_a_portrait_speak(studio, name):
    workflow = small(name)
    skip_without_vhs(studio, workflow)
    check_speaks(studio.video(workflow), name)


def test_controls_change_the_video_and_their_defaults_do_not(studio):
    workflow = small()
    made = read_video(studio.video(workflow)).frames.astype(int)
    change(workflow, "DittoControls", nod=20.0, gaze_right=10.0)
    assert np.abs(read_video(studio.video(workflow)).frames - made).mean() > 0.05
    del workflow[every(workflow, "DittoAnimate")[0]]["inputs"]["controls"]
    assert np.abs(read_video(studio.video(workflow)).frames - made).max() == 0


def nobody(workflow: Api) -> None:
    change(workflow, "LoadImage", image="nobody.png")


def face_that_leaves(workflow: Api) -> None:
    change(workflow, "LoadVideo", file="leaving.mp4")


def empty_mask(workflow: Api) -> None:
    put(workflow, "DittoPortrait", "face", "SolidMask", value=0.0, width=SIZE[0], height=SIZE[1])


def checkpoint(name: str) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "DittoLoadModel", checkpoint=name)


def graphs_without_cuda(workflow: Api) -> None:
    change(workflow, "DittoAnimate", speed="CUDA graphs")


def limited_twice(workflow: Api) -> None:
    change(workflow, "DittoAnimate", max_seconds=1.0)


PUBLISHED = "digital-avatar/ditto-talkinghead"
ERRORS = {
    "nobody": ("ditto_core", nobody, "Portrait", "No face was found in the picture; choose a photograph of"),
    "a face that leaves": (
        "ditto_source_video",
        face_that_leaves,
        "Portrait",
        "No face was found in frame . of the source video; set max_frames to",
    ),
    "an empty mask": (
        "ditto_core",
        empty_mask,
        "Portrait",
        "Paint over the face, or disconnect the face mask",
    ),
    "no speech network": (
        "ditto_core",
        checkpoint("deaf"),
        "LoadModel",
        r"Download hubert_streaming_fix_kv\.onnx of",
    ),
    "half a graph": ("ditto_core", checkpoint("half"), "LoadModel", r"Download .*face_mesh\.onnx again"),
    "other settings": (
        "ditto_core",
        checkpoint("other-settings"),
        "LoadModel",
        r"Download .*\.pkl again, or remove it to go by the portrait itself",
    ),
    "published model without download": (
        "ditto_core",
        checkpoint(PUBLISHED),
        "LoadModel",
        f"Turn on the loader's download option.*{PUBLISHED} is not complete",
    ),
    "CUDA graphs without CUDA": (
        "ditto_core",
        graphs_without_cuda,
        "Animate",
        "'CUDA graphs' needs an NVIDIA GPU; choose 'plain'",
    ),
    "live speech that is limited twice": (
        LIVE,
        limited_twice,
        "Animate",
        "Set max_seconds of Ditto Animate to 0: live speech ends by its own",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_work_is_one_clear_sentence(studio, case):
    name, spoil, node, words = ERRORS[case]
    workflow = small(name)
    spoil(workflow)
    with pytest.raises(HostError, match=f"(?s)Ditto{node} .*{words}"):
        studio.run(workflow)


def test_liveavatar_asks_for_the_audio_encoder_that_ditto_does_not_need(studio):
    workflow = tiny("liveavatar_core")
    del workflow[every(workflow, "LiveAvatarEncodeSpeech")[0]]["inputs"]["audio_encoder"]
    with pytest.raises(
        HostError, match=r"LiveAvatarSampler .*Connect wav2vec2-large-xlsr-53-english as the audio"
    ):
        studio.run(workflow)


def test_odd_pictures_become_videos(studio):
    for image, size in (("two.png", SIZE), ("huge.png", (212, 320))):
        workflow = small()
        change(workflow, "LoadImage", image=image)
        change(workflow, "DittoAnimate", max_seconds=0.08)
        assert read_video(studio.video(workflow)).size == size


def test_several_pictures_are_a_source_video(studio):
    workflow = small()
    change(workflow, "DittoAnimate", max_seconds=0.16)
    between(workflow, "DittoPortrait", "source", "RepeatImageBatch", "image", amount=3)
    assert len(read_video(studio.video(workflow)).frames) == 4


@pytest.mark.parametrize("nodes_2", [False, True], ids=["canvas", "nodes2"])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_shipped_workflow_runs_from_the_page(studio, browser, name, nodes_2):
    workflow = shipped(name)
    skip_without_vhs(studio, workflow)
    studio.post(VUE_NODES, nodes_2)
    try:
        with browser.page_with_graph("DittoAnimate") as page:
            types = drop_workflow(page, ui_file(name))
            sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
            assert wiring(sent) == wiring(workflow)
            assert page.get_by_role("dialog").all_inner_texts() == []  # missing nodes are told in a dialog

            page.evaluate(USE_SMALL_FILES)
            widgets = dict(TINY)
            if name == LIVE:
                widgets["DittoAnimate"] = {"steps": 2}
            page.evaluate(SET_WIDGETS, widgets)
            done = queue_and_wait(page)
            for type_ in {"AvatarStreamToVideo", "VHS_VideoCombine"} & set(types) if not nodes_2 else ():
                # One answer: the player changes from what grows to the finished file meanwhile.
                played = page.wait_for_function(PLAYED, arg=type_, timeout=10_000)
                assert played.json_value() == list(SIZE)
            page.evaluate("() => window.app.canvas.setDirty(true, true)")
            page.wait_for_timeout(500)  # nodes grow with what they show
            screenshot(page, f"{name}-{'nodes2' if nodes_2 else 'canvas'}")
            assert overlaps(page, Site(studio, browser, nodes_2)) == []
            assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
        check_speaks(studio.saved_video(studio.wait(done["prompt_id"])), name)
    finally:
        studio.post(VUE_NODES, False)


def test_every_input_is_explained(host):
    nodes = {name: node for name, node in host.pack_nodes().items() if name.startswith("Ditto")}
    assert len(nodes) == 4
    for name, node in nodes.items():
        assert node["category"] == "LiveAvatar/Ditto"
        page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        for inputs in (node["input"].get("required", {}), node["input"].get("optional", {})):
            for key, (_, options) in inputs.items():
                assert options["tooltip"]
                assert key in page
