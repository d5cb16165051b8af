"""Bad and odd input: one clear sentence or a correct video, and the host goes on working."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tools.connection import HostError
from tools.host import Host

from .media import check_talks, read_video, write_odd_media
from .models import write_misfits
from .workflows import Api, add, between, change, only, put, small


@pytest.fixture(scope="module", autouse=True)
def misfits(ready: Host) -> Iterator[None]:
    """Files that fit nothing, in the host's folders; after everything in this file an ordinary run succeeds."""
    write_misfits(ready.models_dir)
    write_odd_media(ready.input_dir)
    (ready.output_dir / "a file").write_text("no folder")
    process = ready.process.pid
    yield
    check_talks(read_video(ready.video(small(seed=7))), (64, 64), 8, 24_000, 1)
    assert ready.process.pid == process


def load_checkpoint(name: str, **inputs: object) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "LiveAvatarLoadCheckpoint", checkpoint=name, **inputs)


def no_sound(workflow: Api) -> None:
    put(
        workflow,
        "LiveAvatarEncodeSpeech",
        "audio",
        "EmptyAudio",
        duration=0.0,
        sample_rate=16_000,
        channels=1,
    )


def video_without_sound(workflow: Api) -> None:
    video = add(workflow, "LoadVideo", file="pose.mp4")
    put(workflow, "LiveAvatarEncodeSpeech", "audio", "GetVideoComponents", slot=1, video=[video, 0])


def speech_file_without_sound(workflow: Api) -> None:
    put(workflow, "LiveAvatarEncodeSpeech", "audio", "LiveAvatarLoadSpeechFile", audio="pose.mp4")


def sound_of(name: str) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "LoadAudio", audio=name)


def picture_of(name: str) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, "LoadImage", image=name)


def two_pictures(workflow: Api) -> None:
    between(workflow, "LiveAvatarReferenceImage", "image", "RepeatImageBatch", "image", amount=2)


def odd_size(workflow: Api) -> None:
    change(workflow, "LiveAvatarReferenceImage", width=100)


def no_portrait(workflow: Api) -> None:
    change(workflow, "LiveAvatarSampler", positive=[only(workflow, "CLIPTextEncode"), 0])


def two_prompts(workflow: Api) -> None:
    prompt = only(workflow, "CLIPTextEncode")
    inputs = {"conditioning_1": [prompt, 0], "conditioning_2": [prompt, 0]}
    put(workflow, "LiveAvatarReferenceImage", "positive", "ConditioningCombine", **inputs)


def text_to_video_model(workflow: Api) -> None:
    inputs = {"unet_name": "tiny_t2v.safetensors", "weight_dtype": "default"}
    put(workflow, "LiveAvatarSampler", "model", "UNETLoader", **inputs)


def wide_model(workflow: Api) -> None:
    inputs = {"unet_name": "tiny_s2v.safetensors", "weight_dtype": "default"}
    put(workflow, "LiveAvatarSampler", "model", "UNETLoader", **inputs)


def other_lora(workflow: Api) -> None:
    inputs = {"lora": "of_flux.safetensors", "strength": 1.0, "download": False}
    between(workflow, "LiveAvatarSampler", "model", "LiveAvatarApplyLora", "model", **inputs)


def pixel_vae(node: str) -> Callable[[Api], None]:
    return lambda workflow: put(workflow, node, "vae", "VAELoader", vae_name="pixel_space")


def second_speaker(workflow: Api) -> None:
    put(workflow, "LiveAvatarEncodeSpeech", "audio_2", "LoadAudio", audio="speech_2.wav")


def masks_of_one_speaker(workflow: Api) -> None:
    inputs = {"value": 1.0, "width": 64, "height": 64}
    masks = [[add(workflow, "SolidMask", **inputs), 0] for _ in range(2)]
    inputs = {"mask": masks[0], "mask_2": masks[1]}
    between(workflow, "LiveAvatarSampler", "speech", "LiveAvatarSpeakerMasks", "speech", **inputs)


def too_large_a_batch(workflow: Api) -> None:
    """Two minutes of 2048x2048; the host's nodes make such a scene without encoding a picture."""
    put(
        workflow,
        "LiveAvatarEncodeSpeech",
        "audio",
        "EmptyAudio",
        duration=120.0,
        sample_rate=16_000,
        channels=1,
    )
    latent = add(workflow, "EmptyHunyuanLatentVideo", width=2048, height=2048, length=73, batch_size=1)
    prompt = [only(workflow, "CLIPTextEncode"), 0]
    history = add(
        workflow,
        "WanSoundImageToVideoExtend",
        positive=prompt,
        negative=prompt,
        vae=[only(workflow, "LiveAvatarLoadCheckpoint"), 2],
        length=1,
        video_latent=[latent, 0],
    )
    inputs = {"conditioning": [history, 0], "latent": [latent, 0]}
    put(workflow, "LiveAvatarSampler", "positive", "ReferenceLatent", **inputs)
    change(workflow, "LiveAvatarSampler", max_seconds=0.0)
    del workflow[only(workflow, "AvatarStreamToVideo")]
    stream = [only(workflow, "LiveAvatarSampler"), 0]
    frames = add(workflow, "AvatarStreamToFrames", stream=stream, frames="batch")
    add(workflow, "PreviewImage", images=[frames, 0])


def typed(node: str, **inputs: object) -> Callable[[Api], None]:
    return lambda workflow: change(workflow, node, **inputs)


def linked(node: str, name: str, type_: str, value: object) -> Callable[[Api], None]:
    """A value that the host does not see before it runs the workflow."""
    return lambda workflow: put(workflow, node, name, type_, value=value)


NAN = float("nan")
LONG = "a" * 300
PUBLISHED = "Wan-AI/Wan2.2-S2V-14B"
ERRORS = {
    "sound without samples": (no_sound, "LiveAvatarEncodeSpeech", "audio is empty"),
    "sound with NaN": (sound_of("nan.wav"), "LiveAvatarEncodeSpeech", "NaN or infinite samples"),
    "video without sound": (
        video_without_sound,
        "LiveAvatarEncodeSpeech",
        "Load a video .*: this video has no sound",
    ),
    "speech file without sound": (
        speech_file_without_sound,
        "LiveAvatarLoadSpeechFile",
        "Choose a file or video with sound: .*pose.mp4 has no sound",
    ),
    "tiny picture": (
        picture_of("tiny.png"),
        "LiveAvatarReferenceImage",
        "only 16x16 pixels: use one with at least 32",
    ),
    "batch of pictures": (two_pictures, "LiveAvatarReferenceImage", "batch of 2: pick one"),
    "size that is no multiple": (
        odd_size,
        "LiveAvatarReferenceImage",
        "multiples of 64, the nearest size is 128x64",
    ),
    "prompt without portrait": (
        no_portrait,
        "LiveAvatarSampler",
        "no portrait; connect it through LiveAvatar Reference",
    ),
    "two prompts": (two_prompts, "LiveAvatarSampler", "2 parts, and only one is taken"),
    "text-to-video model": (
        text_to_video_model,
        "LiveAvatarSampler",
        "cannot listen to speech; load Wan2.2-S2V-14B",
    ),
    "model of other widths": (wide_model, "LiveAvatarSampler", "64 wide, the model expects 4096"),
    "LoRA of another model": (other_lora, "LiveAvatarApplyLora", "belongs to another model.*double_blocks"),
    "LoRA of another model in the loader": (
        load_checkpoint("tiny", lora="of_flux.safetensors"),
        "LiveAvatarLoadCheckpoint",
        "belongs to another model.*double_blocks",
    ),
    "other VAE for the portrait": (
        pixel_vae("LiveAvatarReferenceImage"),
        "LiveAvatarReferenceImage",
        "use Wan 2.1's VAE",
    ),
    "other VAE for the video": (pixel_vae("LiveAvatarSampler"), "LiveAvatarSampler", "use Wan 2.1's VAE"),
    "checkpoint that is not there": (load_checkpoint("gone"), "LiveAvatarLoadCheckpoint", "gone"),
    "half a shard": (
        load_checkpoint("cut-off"),
        "LiveAvatarLoadCheckpoint",
        "00002-of-00002.safetensors is cut off at 100,000 of .* download it again",
    ),
    "missing shard": (
        load_checkpoint("incomplete"),
        "LiveAvatarLoadCheckpoint",
        "lacks 1 of 2 weight shards: .*00002-of-00002",
    ),
    "published model without download": (
        load_checkpoint(PUBLISHED),
        "LiveAvatarLoadCheckpoint",
        f"Turn on the loader's download option .*GB.* hf download {PUBLISHED}.* not complete.*tiny talker",
    ),
    "published LoRA without download": (
        load_checkpoint("tiny", lora="Quark-Vision/Live-Avatar"),
        "LiveAvatarLoadCheckpoint",
        "Turn on the loader's download option",
    ),
    "two speakers without masks": (second_speaker, "LiveAvatarSampler", "Add LiveAvatar Speaker Masks"),
    "masks for one speaker": (masks_of_one_speaker, "LiveAvatarSpeakerMasks", "Only one person speaks"),
    "checkpoint that is a path": (
        load_checkpoint("/etc"),
        "LiveAvatarLoadCheckpoint",
        "not in list: choose another checkpoint",
    ),
    "checkpoint above": (
        load_checkpoint("../tiny"),
        "LiveAvatarLoadCheckpoint",
        "not in list: choose another checkpoint",
    ),
    "LoRA that is a path": (
        load_checkpoint("tiny", lora="/etc/passwd"),
        "LiveAvatarLoadCheckpoint",
        "another lora",
    ),
    "unknown size": (
        typed("LiveAvatarReferenceImage", size="huge"),
        "LiveAvatarReferenceImage",
        "another size than 'huge'",
    ),
    "unknown sink": (
        typed("LiveAvatarSampler", sink="kitchen"),
        "LiveAvatarSampler",
        "another sink than 'kitchen'",
    ),
    "strength NaN": (
        typed("LiveAvatarLoadCheckpoint", lora_strength=NAN),
        "LiveAvatarLoadCheckpoint",
        "set lora_strength to a",
    ),
    "seconds NaN": (
        typed("LiveAvatarSampler", max_seconds=NAN),
        "LiveAvatarSampler",
        "Value nan is not a number: set max_seconds",
    ),
    "steps beyond by a link": (
        linked("LiveAvatarSampler", "steps", "PrimitiveInt", 1000),
        "LiveAvatarSampler",
        "Value 1000 bigger than max of 50: set steps",
    ),
    "HTML in a name": (
        typed("AvatarStreamToVideo", filename_prefix="<img src=x onerror=alert(1)>"),
        "AvatarStreamToVideo",
        "Take < > out of filename_prefix",
    ),
    "HTML in a name by a link": (
        linked("AvatarStreamToVideo", "filename_prefix", "PrimitiveString", "<b>"),
        "AvatarStreamToVideo",
        "Take < > out of filename_prefix",
    ),
    "NUL in a name": (
        typed("AvatarStreamToVideo", filename_prefix="a\0b"),
        "AvatarStreamToVideo",
        "control characters out of",
    ),
    "name that is too long": (
        typed("AvatarStreamToVideo", filename_prefix=LONG),
        "AvatarStreamToVideo",
        "Shorten filename",
    ),
    "name that leads out": (
        typed("AvatarStreamToVideo", filename_prefix="/etc/video"),
        "AvatarStreamToVideo",
        "Choose a filename_prefix inside ComfyUI's output folder: '/etc/video' leads out",
    ),
    "name through a file": (
        typed("AvatarStreamToVideo", filename_prefix="a file/video"),
        "AvatarStreamToVideo",
        "Choose another filename_prefix: a part of 'a file/video' is a file, not a folder",
    ),
    "batch beyond the memory": (
        too_large_a_batch,
        "AvatarStreamToFrames",
        "Choose 'stream'.* need .* GB as a batch",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_work_is_one_clear_sentence(ready, case):
    spoil, node, words = ERRORS[case]
    workflow = small()
    spoil(workflow)
    with pytest.raises(HostError, match=f"(?s){node} .*{words}") as failure:
        ready.run(workflow)
    lines = str(failure.value).splitlines()
    assert len(lines) == 1, lines
