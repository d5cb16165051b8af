"""PersonaLive in the host: a portrait follows a driving video, a saved motion or a LiveAvatar that speaks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.unit.media.test_driving import film
from tools.connection import HostError
from tools.demo_media import portrait
from tools.environment import ROOT
from tools.host import Host
from tools.host_events import HostEvents
from tools.tiny_personalive import write_tiny_personalive

from .browser import drop_workflow, queue_and_wait, screenshot
from .media import read_video, tone
from .test_page import OVERLAPS, PLAYED, SET_WIDGETS, USE_SMALL_FILES, wiring
from .workflows import TINY as TINY_LIVEAVATAR
from .workflows import Api, add, change, every, only, put, shipped, tiny, ui_file

FPS, FRAMES, RATE = 30, 6, 16_000
CHUNK, LEAD_IN, LONG = 4, 12, 72
SPEECH_FRAMES = 8
SIZE = 128
TINY = {
    **TINY_LIVEAVATAR,
    "LiveAvatarSampler": {"max_seconds": SPEECH_FRAMES / 25},
    "LiveAvatarReferenceImage": {"size": "exact", "width": 64, "height": 64},
    "PersonaLiveLoadModel": {"checkpoint": "tiny"},
    "PersonaLivePortrait": {"width": SIZE, "height": SIZE},
}
# name -> frames per second, number of frames, sample rate and channels of the sound
EXPECTED = {
    "personalive": (FPS, FRAMES, RATE, 1),
    "personalive_core": (FPS, FRAMES, RATE, 1),
    "personalive_from_speech": (25, SPEECH_FRAMES, 24_000, 1),
}


@pytest.fixture(scope="module")
def studio(ready: Host) -> Host:
    """The host with the tiny PersonaLive, whole and damaged, and with driving videos."""
    models = ready.models_dir / "personalive"
    write_tiny_personalive(models / "tiny")
    shutil.copytree(models / "tiny", models / "incomplete")
    (models / "incomplete" / "personalive" / "motion_encoder.pth").unlink()
    shutil.copytree(models / "tiny" / "personalive", models / "alone")
    face = np.asarray(Image.open(portrait(ready.input_dir / "face.png", 256)))
    Image.fromarray(face[:, ::-1]).resize((512, 512)).save(ready.input_dir / "portrait_2.png")
    nodding = [np.roll(face, (2 * i, 3 * i), (0, 1)) for i in range(FRAMES)]
    write_driving(ready.input_dir / "driving.mp4", nodding)
    write_driving(ready.input_dir / "still.mp4", nodding[:1])
    write_driving(ready.input_dir / "odd.mp4", [frame[:100, 30:220:5] for frame in nodding[:3]])
    write_driving(ready.input_dir / "long.mp4", [nodding[i % FRAMES] for i in range(LONG)])
    for name, side in (("4k.mp4", (3840, 2160)), ("64.mp4", (64, 64))):
        frames = [np.asarray(Image.fromarray(frame).resize(side)) for frame in nodding[:2]]
        write_driving(ready.input_dir / name, frames)
    Image.fromarray(face).resize((3840, 2160)).save(ready.input_dir / "huge.png")
    Image.fromarray(face).resize((64, 64)).save(ready.input_dir / "tiny.png")
    (models / "face_detection_yunet_2023mar.onnx").write_bytes(b"half a download")
    # where the face is, as a film in black and white; the fourth frame has none
    faces = [np.zeros_like(face) for _ in nodding]
    for i, mask in enumerate(faces):
        mask[60 + 2 * i : 200 + 2 * i, 70 + 3 * i : 190 + 3 * i] = 0 if i == 3 else 255
    write_driving(ready.input_dir / "faces.mp4", faces)
    return ready


def write_driving(path: Path, frames: list[np.ndarray]) -> None:
    """A film of uint8 frames [H, W, 3] with a mono sound of the same length."""
    with av.open(str(path), "w") as out:
        film = out.add_stream("libx264", rate=FPS, options={"crf": "5"})
        film.height, film.width = frames[0].shape[:2]
        film.pix_fmt = "yuv420p"
        voice = out.add_stream("aac", rate=RATE, layout="mono")
        for picture in frames:
            out.mux(film.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(film.encode())
        samples = tone(len(frames) / FPS, RATE, 1).T.astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        sound.sample_rate = RATE
        out.mux(voice.encode(sound))
        out.mux(voice.encode())


def small(name: str = "personalive_core") -> Api:
    """A shipped workflow on the tiny checkpoints."""
    workflow = tiny(name)
    for type_, inputs in TINY.items():
        for node in every(workflow, type_):
            workflow[node]["inputs"].update(inputs)
    return workflow


def check_follows(path: Path, fps: int, frames: int, rate: int, channels: int) -> np.ndarray:
    """Assert size, length and sound of a video, and that its picture moves; returns its frames."""
    video = read_video(path)
    assert video.size == (SIZE, SIZE)
    assert video.fps == Fraction(fps)
    assert len(video.frames) == frames
    assert video.audio_rate == rate
    assert video.audio_channels in (channels, 2)  # Save Video and Video Combine may write two
    assert (video.video_start, video.audio_start) == (0, 0)
    # what an AAC packet is filled with comes on top, twice where the sound was encoded twice
    assert -1 / fps <= video.audio_seconds - frames / fps <= 2 * 1024 / rate
    assert all(frame.std() > 5 for frame in video.frames)
    if frames > 1:
        assert np.abs(np.diff(video.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > 0.1
    return video.frames


def read_sound(path: Path) -> np.ndarray:
    """The first channel of a video's sound."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def skip_without_vhs(host: Host, workflow: Api) -> None:
    if any(node["class_type"].startswith("VHS_") for node in workflow.values()) and not host.has_vhs:
        pytest.skip("VHS_PATH names no VideoHelperSuite")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_shipped_workflow_makes_a_portrait_move(studio, name):
    workflow = small(name)
    skip_without_vhs(studio, workflow)
    check_follows(studio.video(workflow), *EXPECTED[name])


def test_gestures_move_a_head_without_a_video(studio):
    workflow = small("personalive_gestures")
    for node in every(workflow, "PersonaLiveHeadGesture"):
        workflow[node]["inputs"].update(seconds=0.32, degrees=20.0)
    with av.open(str(studio.video(workflow))) as film:
        assert not film.streams.audio
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(frames) == 8 + 10 + 8
    assert max(np.abs(frame - frames[0]).mean() for frame in frames) > 0.1


def test_sound_of_eight_channels_that_sets_in_late_stays_in_its_place(studio):
    film(studio.input_dir / "late.mkv", sound_at=0.4, layout="7.1")
    workflow = small()
    change(workflow, "LoadVideo", file="late.mkv")
    path = studio.video(workflow)
    first_loud = np.flatnonzero(np.abs(read_sound(path)) > 0.05)[0] / 8000
    assert first_loud == pytest.approx(0.9, abs=0.03)


def test_a_saved_motion_gives_the_same_video(studio):
    workflow = small()
    motion = [only(workflow, "PersonaLiveExtractMotion"), 0]
    add(workflow, "PersonaLiveSaveMotion", motion=motion, filename_prefix="motion/nod")
    before = check_follows(studio.video(workflow), *EXPECTED["personalive_core"])
    (file,) = (studio.output_dir / "motion").glob("nod*.motion.safetensors")
    assert file.stat().st_size < 4000 * FRAMES

    again = small()
    extract, driving = only(again, "PersonaLiveExtractMotion"), only(again, "LoadVideo")
    again[extract] = {"class_type": "PersonaLiveLoadMotion", "inputs": {"file": f"motion/{file.name}"}}
    again[driving] = {"class_type": "LoadAudio", "inputs": {"audio": "driving.mp4"}}
    change(again, "PersonaLiveLoadMotion", audio=[driving, 0])
    after = check_follows(studio.video(again), *EXPECTED["personalive_core"])
    np.testing.assert_array_equal(after, before)


def test_one_motion_drives_two_portraits(studio):
    alone = check_follows(studio.video(small()), *EXPECTED["personalive_core"])
    workflow = small()
    (first,) = every(workflow, "LoadImage")
    second = add(workflow, "LoadImage", image="portrait_2.png")
    put(workflow, "PersonaLivePortrait", "image", "ImageBatch", image1=[first, 0], image2=[second, 0])
    files = [file for file in studio.files(studio.run(workflow)) if file.suffix == ".mp4"]
    one, two = (check_follows(file, *EXPECTED["personalive_core"]) for file in files)
    np.testing.assert_array_equal(one, alone)
    assert np.abs(two.astype(int) - one).mean() > 1


def test_the_sound_of_a_video_made_in_the_graph_passes_through(studio):
    workflow = small()
    parts = add(workflow, "GetVideoComponents", video=[only(workflow, "LoadVideo"), 0])
    inputs = {"images": [parts, 0], "audio": [parts, 1], "fps": [parts, 2]}
    put(workflow, "PersonaLiveExtractMotion", "driving", "CreateVideo", **inputs)
    check_follows(studio.video(workflow), *EXPECTED["personalive_core"])


def test_image_frames_have_the_rate_and_sound_that_they_are_given(studio):
    workflow = small()
    parts = add(workflow, "GetVideoComponents", video=[only(workflow, "LoadVideo"), 0])
    inputs = {"driving": [parts, 0], "audio": [parts, 1], "fps": 24.0, "max_frames": 5}
    change(workflow, "PersonaLiveExtractMotion", **inputs)
    check_follows(studio.video(workflow), 24, 5, RATE, 1)


@pytest.mark.parametrize("crop", ["centre", "head"])
def test_a_portrait_of_another_shape_is_cut_and_not_stretched(studio, crop):
    workflow = small()
    change(workflow, "LoadImage", image="portrait_2.png")
    change(workflow, "PersonaLivePortrait", width=192, height=128, crop=crop)
    change(workflow, "PersonaLiveAnimate", max_frames=1)
    if crop == "head":  # of a face whose head is in the middle
        face = add(workflow, "SolidMask", value=1.0, width=180, height=180)
        empty = add(workflow, "SolidMask", value=0.0, width=512, height=512)
        inputs = {"destination": [empty, 0], "source": [face, 0], "x": 166, "y": 190, "operation": "add"}
        put(workflow, "PersonaLivePortrait", "face", "MaskComposite", **inputs)
    (prepared,) = [file for file in studio.files(studio.run(workflow)) if file.suffix == ".png"]
    with Image.open(studio.input_dir / "portrait_2.png") as picture:
        middle = picture.crop((0, 86, 512, 427)).resize((192, 128), Image.Resampling.LANCZOS)
    with Image.open(prepared) as seen:
        difference = np.abs(np.asarray(seen.convert("RGB"), int) - np.asarray(middle, int))
    assert difference.mean() < 3


@pytest.mark.parametrize(("file", "frames"), [("still.mp4", 1), ("odd.mp4", 3), ("4k.mp4", 2), ("64.mp4", 2)])
def test_a_driving_video_may_have_one_frame_or_any_shape(studio, file, frames):
    workflow = small()
    change(workflow, "LoadVideo", file=file)
    check_follows(studio.video(workflow), FPS, frames, RATE, 1)


def test_the_way_from_the_portrait_is_shown_on_request_and_the_sound_waits(studio):
    workflow = small()
    without = check_follows(studio.video(workflow), *EXPECTED["personalive_core"])
    change(workflow, "PersonaLiveAnimate", lead_in=True)
    path = studio.video(workflow)
    frames = check_follows(path, FPS, LEAD_IN + FRAMES, RATE, 1)
    assert np.abs(frames[LEAD_IN:].astype(int) - without).mean() < 3  # the same, but for the compression
    sound = read_sound(path)
    silent = round(LEAD_IN / FPS * RATE)
    assert np.abs(sound[: silent - 1024]).max() < 0.01 < np.abs(sound[silent : silent + 1600]).max()


def test_an_interrupted_run_stops_within_a_chunk_and_keeps_what_it_made(studio):
    workflow = small()
    change(workflow, "AvatarStreamToVideo", filename_prefix="video/stopped")
    change(workflow, "LoadVideo", file="long.mp4")
    writer = only(workflow, "AvatarStreamToVideo")
    asked_at = 0

    with HostEvents(studio) as events:

        def interrupt_in_the_third_chunk() -> None:
            nonlocal asked_at
            node, done, _ = events.progress() or ("", 0, 0)
            if node == writer and done >= 2 * CHUNK and not asked_at:
                asked_at = done
                studio.interrupt()

        entry = studio.wait(studio.submit(workflow, events.client_id), watch=interrupt_in_the_third_chunk)
    assert studio.errors(entry) == [f"AvatarStreamToVideo (node {writer}): interrupted"]
    (path,) = (studio.output_dir / "video").glob("stopped*.mp4")
    kept = len(read_video(path).frames)
    # what was seen when the interrupt was asked for, one chunk on its way and one in progress
    assert asked_at <= kept <= asked_at + 2 * CHUNK < LONG
    check_follows(path, FPS, kept, RATE, 1)
    check_follows(studio.video(small()), *EXPECTED["personalive_core"])


def test_reading_a_driving_video_stops_when_it_is_interrupted(studio):
    workflow = small()
    change(workflow, "LoadVideo", file="long.mp4")
    change(workflow, "PersonaLiveExtractMotion", crop="none")  # read anew
    reader = only(workflow, "PersonaLiveExtractMotion")

    with HostEvents(studio) as events:

        def interrupt_when_it_reads() -> None:
            running = [data for kind, data in events.messages if kind == "executing"]
            if running and running[-1]["node"] == reader:
                studio.interrupt()

        entry = studio.wait(studio.submit(workflow, events.client_id), watch=interrupt_when_it_reads)
    assert studio.errors(entry) == [f"PersonaLiveExtractMotion (node {reader}): interrupted"]


@pytest.mark.parametrize("file", ["huge.png", "tiny.png"])
def test_a_portrait_of_4k_or_64_pixels_is_brought_to_size(studio, file):
    workflow = small()
    change(workflow, "LoadImage", image=file)
    change(workflow, "PersonaLiveAnimate", max_frames=1)
    check_follows(studio.video(workflow), FPS, 1, RATE, 1)


def film_of_faces(workflow: Api) -> None:
    """Say where the face is in every frame of the driving video; it is nowhere in the fourth."""
    film = add(workflow, "GetVideoComponents", video=[add(workflow, "LoadVideo", file="faces.mp4"), 0])
    put(workflow, "PersonaLiveExtractMotion", "faces", "ImageToMask", image=[film, 0], channel="red")


@pytest.mark.parametrize(
    ("choice", "crop", "frames"), [("hold", "head", FRAMES), ("skip", "centre", FRAMES - 1)]
)
def test_a_frame_without_a_face_is_held_or_skipped(studio, choice, crop, frames):
    workflow = small()
    film_of_faces(workflow)
    change(workflow, "PersonaLiveExtractMotion", no_face=choice, crop=crop)
    check_follows(studio.video(workflow), FPS, frames, RATE, 1)


def no_face(workflow: Api) -> None:
    film_of_faces(workflow)


def no_face_anywhere(workflow: Api) -> None:
    put(workflow, "PersonaLiveExtractMotion", "faces", "SolidMask", value=0.0, width=256, height=256)
    change(workflow, "PersonaLiveExtractMotion", no_face="skip", max_frames=1)


def too_few_masks(workflow: Api) -> None:
    put(workflow, "PersonaLiveExtractMotion", "faces", "SolidMask", value=1.0, width=256, height=256)


def masks_of_another_size(workflow: Api) -> None:
    put(workflow, "PersonaLiveExtractMotion", "faces", "SolidMask", value=1.0, width=64, height=32)


def portrait_mask(value: float, width: int) -> Callable[[Api], None]:
    inputs = {"value": value, "width": width, "height": 512}
    return lambda workflow: put(workflow, "PersonaLivePortrait", "face", "SolidMask", **inputs)


def pixel_vae(workflow: Api) -> None:
    put(workflow, "PersonaLiveLoadModel", "vae", "VAELoader", vae_name="pixel_space")


def checkpoint(name: str) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "PersonaLiveLoadModel", checkpoint=name)


def size(**sides: int) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "PersonaLivePortrait", **sides)


def speed(name: str) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "PersonaLiveAnimate", speed=name)


def no_finder(workflow: Api) -> None:
    change(workflow, "PersonaLiveExtractMotion", finder="opencv")


def no_finder_for_the_portrait(workflow: Api) -> None:
    change(workflow, "PersonaLivePortrait", crop="head")


def five_steps(workflow: Api) -> None:
    change(workflow, "PersonaLiveAnimate", steps=5)


def no_such_motion(workflow: Api) -> None:
    put(workflow, "PersonaLiveAnimate", "motion", "PersonaLiveLoadMotion", file="gone.motion.safetensors")


PUBLISHED = "huaichang/PersonaLive"
# the second where the machine has no OpenCV
FINDER = "(2023mar.onnx cannot be read; download|Finding faces needs OpenCV: install opencv-python-headless)"
ERRORS = {
    "frame without a face": (no_face, "ExtractMotion", "No face was found in frame 3 of the driving video"),
    "no face in any frame": (no_face_anywhere, "ExtractMotion", "No frame of the driving video has a face"),
    "fewer masks than frames": (too_few_masks, "ExtractMotion", "face boxes for 1 frames only"),
    "masks of another size": (masks_of_another_size, "ExtractMotion", "mask is 64x32, the picture 256x256"),
    "portrait mask of another size": (portrait_mask(1.0, 64), "Portrait", "mask is 64x512, .* 256x512"),
    "empty portrait mask": (
        portrait_mask(0.0, 256),
        "Portrait",
        "Paint over the face, or disconnect the face mask",
    ),
    "other VAE": (pixel_vae, "LoadModel", "This VAE has 3 latent channels .* needs Stable Diffusion 1.x's"),
    "64x64": (size(width=64, height=64), "Portrait", "Value 64 smaller than min of 128"),
    "odd size": (size(width=200), "Portrait", "The width must be a multiple of 64 .* it is 200"),
    "4K": (size(width=3840, height=2160), "Portrait", "Value 3840 bigger than max of 1024"),
    "missing weights": (checkpoint("incomplete"), "LoadModel", "lacks motion_encoder.pth; copy or download"),
    "missing base model": (
        checkpoint("alone"),
        "LoadModel",
        "Turn on the loader's download option.*sd-image-variations-diffusers is not complete",
    ),
    "published model without download": (
        checkpoint(PUBLISHED),
        "LoadModel",
        f"Turn on the loader's download option.*{PUBLISHED} is not complete",
    ),
    "CUDA graphs without CUDA": (speed("CUDA graphs"), "Animate", "needs an NVIDIA GPU; choose 'auto'"),
    "compiled without CUDA": (speed("compiled"), "Animate", "needs an NVIDIA GPU; choose 'auto'"),
    "damaged face detector": (no_finder, "ExtractMotion", FINDER),
    "damaged face detector for the portrait": (no_finder_for_the_portrait, "Portrait", FINDER),
    "steps that do not fit": (five_steps, "Animate", "steps must be a multiple of 4, but it is 5"),
    "motion file that is gone": (
        no_such_motion,
        "LoadMotion",
        "There is no motion file gone.motion.safetensors",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_work_is_one_clear_sentence(studio, case):
    spoil, node, words = ERRORS[case]
    workflow = small()
    spoil(workflow)
    with pytest.raises(HostError, match=f"(?s)PersonaLive{node} .*{words}") as failure:
        studio.run(workflow)
    assert node == "Portrait" or len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_a_shipped_workflow_runs_from_the_page(studio, browser, name):
    workflow = shipped(name)
    skip_without_vhs(studio, workflow)
    with browser.page_with_graph("PersonaLiveAnimate") as page:
        types = drop_workflow(page, ui_file(name))
        sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
        assert wiring(sent) == wiring(workflow)
        assert page.get_by_role("dialog").all_inner_texts() == []  # missing nodes are told in a dialog

        page.evaluate(USE_SMALL_FILES)
        page.evaluate(SET_WIDGETS, TINY)
        done = queue_and_wait(page)
        for type_ in {"AvatarStreamToVideo", "VHS_VideoCombine"} & set(types):
            # One answer: the player changes from what grows to the finished file meanwhile.
            played = page.wait_for_function(PLAYED, arg=type_, timeout=10_000)
            assert played.json_value() == [SIZE, SIZE]
        page.evaluate("() => window.app.canvas.setDirty(true, true)")
        page.wait_for_timeout(500)  # nodes grow with what they show
        screenshot(page, name)
        assert page.evaluate(OVERLAPS) == []
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
    check_follows(studio.saved_video(studio.wait(done["prompt_id"])), *EXPECTED[name])


def test_every_input_is_explained(host):
    nodes = {name: node for name, node in host.pack_nodes().items() if name.startswith("PersonaLive")}
    assert len(nodes) == 9
    for name, node in nodes.items():
        assert node["category"] == "LiveAvatar/PersonaLive"
        page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        for inputs in (node["input"].get("required", {}), node["input"].get("optional", {})):
            for key, (_, options) in inputs.items():
                assert options["tooltip"]
                assert key in page
