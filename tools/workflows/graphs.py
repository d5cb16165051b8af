"""The shipped workflows as tables of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..talker import SIDE
from . import notes

PROMPT = "A person looks into the camera and talks, with natural expressions and small movements of the head."


@dataclass(frozen=True)
class Link:
    """An edge from output ``slot`` of the node called ``name``."""

    name: str
    slot: int = 0


@dataclass
class Node:
    """A node: where it stands (column), and its inputs, links and widget values by name."""

    type: str
    column: int
    inputs: dict[str, Any] = field(default_factory=dict)
    extra_height: int = 0
    title: str = ""


Graph = Mapping[str, Node]

MODEL, YOURS, PREPARE, VIDEO = "Model", "Yours: change these", "Preparation", "Video"
TALKING = {MODEL: (0, 0), YOURS: (1, 1), PREPARE: (2, 2), VIDEO: (3, 3)}
"""The columns, first and last, of the groups of most workflows."""


def loaders() -> dict[str, Node]:
    return {
        "load": Node(
            "LiveAvatarLoadCheckpoint",
            0,
            {
                "checkpoint": "Wan-AI/Wan2.2-S2V-14B",
                "lora": "Quark-Vision/Live-Avatar",
                "lora_strength": 1.0,
                "precision": "auto",
                "download": False,
                "float8_copy": "off",
            },
        )
    }


def host_loaders() -> dict[str, Node]:
    """The same model from the files that ComfyUI's own templates use."""
    return {
        "unet": Node(
            "UNETLoader", 0, {"unet_name": "wan2.2_s2v_14B_bf16.safetensors", "weight_dtype": "default"}
        ),
        "lora": Node(
            "LiveAvatarApplyLora",
            0,
            {"model": Link("unet"), "lora": "liveavatar.safetensors", "strength": 1.0, "download": False},
        ),
        "clip": Node(
            "CLIPLoader",
            0,
            {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"},
        ),
        "vae": Node("VAELoader", 0, {"vae_name": "wan_2.1_vae.safetensors"}),
        "wav2vec2": Node(
            "AudioEncoderLoader", 0, {"audio_encoder_name": "wav2vec2_large_english_fp16.safetensors"}
        ),
    }


def talking(
    model: Link, clip: Link, vae: Link, audio_encoder: Link, image: str = "liveavatar_portrait_large.png"
) -> dict[str, Node]:
    """Portrait, speech, prompt and sampler."""
    return {
        "image": Node("LoadImage", 1, {"image": image}, 220, "Portrait"),
        "audio": Node("LoadAudio", 1, {"audio": "liveavatar_speech.ogg"}, 80, "Speech"),
        "prompt": Node("CLIPTextEncode", 1, {"clip": clip, "text": PROMPT}, 80, "What the person does"),
        "reference": Node(
            "LiveAvatarReferenceImage",
            2,
            {
                "positive": Link("prompt"),
                "vae": vae,
                "image": Link("image"),
                "size": "fit to area",
                "width": 704,
                "height": 384,
                "history": "streaming",
            },
            extra_height=320,
        ),
        "speech": Node("LiveAvatarEncodeSpeech", 2, {"audio_encoder": audio_encoder, "audio": Link("audio")}),
        "sample": Node(
            "LiveAvatarSampler",
            3,
            {
                "model": model,
                "vae": vae,
                "positive": Link("reference"),
                "speech": Link("speech"),
                "seed": 42,
                "steps": 4,
                "max_seconds": 0.0,
                "frames_per_clip": 48,
                "sink": "own first frame",
                "sink_distance": 30,
                "performance": "auto",
                "guidance": 1.0,
            },
            extra_height=80,
        ),
    }


def from_checkpoint(**options: Any) -> dict[str, Node]:
    links = {"model": 0, "clip": 1, "vae": 2, "audio_encoder": 3}
    return loaders() | talking(**{name: Link("load", slot) for name, slot in links.items()}, **options)


def video_file() -> dict[str, Node]:
    return {
        "video": Node(
            "AvatarStreamToVideo",
            3,
            {
                "stream": Link("sample"),
                "filename_prefix": "video/LiveAvatar",
                "save_output": True,
                "crf": 18,
                "resume": True,
                "snapshot_gb": 40,
                "fps": 0.0,
            },
            extra_height=220,
        )
    }


def basic() -> dict[str, Node]:
    return from_checkpoint() | {
        "frames": Node("AvatarStreamToFrames", 3, {"stream": Link("sample"), "frames": "stream"}),
        "combine": Node(
            "VHS_VideoCombine",
            4,
            {
                "images": Link("frames"),
                "audio": Link("frames", 1),
                "frame_rate": 25,
                "loop_count": 0,
                "filename_prefix": "LiveAvatar",
                "format": "video/h264-mp4",
                "pingpong": False,
                "save_output": True,
                "pix_fmt": "yuv420p",
                "crf": 19,
                "save_metadata": True,
                "trim_to_audio": False,
            },
            extra_height=300,
        ),
    }


def core() -> dict[str, Node]:
    return from_checkpoint() | video_file()


def with_host_loaders() -> dict[str, Node]:
    return host_loaders() | talking(Link("lora"), Link("clip"), Link("vae"), Link("wav2vec2")) | video_file()


def two_speakers() -> dict[str, Node]:
    return two_halves(from_checkpoint(image="liveavatar_two_people.png") | video_file())


def two_halves(graph: dict[str, Node]) -> dict[str, Node]:
    """A talking picture with a second speech, and a mask for each half of the picture."""
    half = {"width": 256, "height": 512}
    graph |= {
        "audio_2": Node(
            "LoadAudio", 1, {"audio": "liveavatar_speech_2.ogg"}, 80, "Speech of the person on the right"
        ),
        "nobody": Node("SolidMask", 3, {"value": 0.0, "width": 512, "height": 512}),
        "half": Node("SolidMask", 3, {"value": 1.0, **half}),
        "left": Node(
            "MaskComposite",
            3,
            {"destination": Link("nobody"), "source": Link("half"), "x": 0, "y": 0, "operation": "add"},
            title="Mask of the person on the left",
        ),
        "right": Node(
            "MaskComposite",
            3,
            {"destination": Link("nobody"), "source": Link("half"), "x": 256, "y": 0, "operation": "add"},
            title="Mask of the person on the right",
        ),
        "masks": Node(
            "LiveAvatarSpeakerMasks",
            3,
            {"speech": Link("speech"), "mask": Link("left"), "mask_2": Link("right")},
        ),
    }
    graph["audio"].title = "Speech of the person on the left"
    graph["speech"].inputs["audio_2"] = Link("audio_2")
    graph["sample"].inputs["speech"] = Link("masks")
    graph["sample"].column = graph["video"].column = 4
    return graph


def pose_video() -> dict[str, Node]:
    graph = from_checkpoint() | video_file()
    graph |= {
        "file": Node("LoadVideo", 1, {"file": "liveavatar_pose.mp4"}, 200, "Pose video"),
        "parts": Node("GetVideoComponents", 2, {"video": Link("file")}),
        "pose": Node(
            "LiveAvatarPoseVideo",
            2,
            {
                "positive": Link("reference"),
                "vae": Link("load", 2),
                "frames": Link("parts"),
                "fps": Link("parts", 2),
            },
        ),
    }
    graph["sample"].inputs["positive"] = Link("pose")
    return graph


def live_speech() -> dict[str, Node]:
    graph = from_checkpoint() | video_file()
    del graph["audio"]
    graph["speech"] = Node(
        "LiveAvatarLiveSpeech",
        2,
        {
            "audio_encoder": Link("load", 3),
            "max_seconds": 600.0,
            "sample_rate": "24000",
            "lookahead": 0.0,
            "id": "",
            "file": "",
            "file_rests": 10.0,
        },
        extra_height=100,
    )
    return graph


def real_time() -> dict[str, Node]:
    """What a large GPU makes as fast as it is spoken."""
    graph = from_checkpoint() | video_file()
    graph["decoder"] = Node("LiveAvatarLoadFastDecoder", 2, {"decoder": "lighttaew2_1.safetensors"})
    graph["sample"].inputs |= {"decoder": Link("decoder"), "steps": 3, "performance": "fast"}
    return graph


def personalive_nodes(
    driving: Link, image: str = "liveavatar_portrait_large.png", column: int = 0
) -> dict[str, Node]:
    """Portrait and motion to a stream; its last node stands three columns further right."""
    return {
        "personalive": Node(
            "PersonaLiveLoadModel",
            column,
            {
                "checkpoint": "huaichang/PersonaLive",
                "precision": "auto",
                "download": False,
                "decoder": "full VAE",
            },
        ),
        "who": Node("LoadImage", column + 1, {"image": image}, 220, "Portrait that moves"),
        "portrait": Node(
            "PersonaLivePortrait",
            column + 2,
            {
                "personalive": Link("personalive"),
                "image": Link("who"),
                "width": 512,
                "height": 512,
                "crop": "centre",
                "who": "largest",
            },
            extra_height=320,
        ),
        "motion": Node(
            "PersonaLiveExtractMotion",
            column + 2,
            {
                "personalive": Link("personalive"),
                "driving": driving,
                "fps": 25.0,
                "crop": "centre",
                "finder": "keypoints",
                "no_face": "stop",
                "max_frames": 0,
                "who": "largest",
            },
            extra_height=40,
        ),
        "animate": Node(
            "PersonaLiveAnimate",
            column + 3,
            {
                "personalive": Link("personalive"),
                "portrait": Link("portrait"),
                "motion": Link("motion"),
                "seed": 42,
                "steps": 4,
                "expression": 1.0,
                "head_pose": 1.0,
                "max_frames": 0,
                "keyframes": 3,
                "keyframe_distance": 17.0,
                "speed": "auto",
                "lead_in": False,
            },
        ),
    }


def driven() -> dict[str, Node]:
    """PersonaLive, from a driving video."""
    file = Node("LoadVideo", 1, {"file": "liveavatar_driving.mp4"}, 340, "Driving video")
    return {"file": file} | personalive_nodes(Link("file"))


def personalive() -> dict[str, Node]:
    graph = driven() | {name: node for name, node in basic().items() if name in ("frames", "combine")}
    graph["frames"].inputs["stream"] = Link("animate")
    graph["frames"].column, graph["combine"].column = 3, 4
    graph["combine"].inputs |= {"frame_rate": Link("frames", 2), "filename_prefix": "PersonaLive"}
    return graph


def personalive_core() -> dict[str, Node]:
    graph = driven() | video_file()
    graph["video"].inputs |= {"stream": Link("animate"), "filename_prefix": "video/PersonaLive"}
    return graph


def personalive_from_speech() -> dict[str, Node]:
    """LiveAvatar speaks, and PersonaLive lets another portrait do the same."""
    speaking = from_checkpoint()
    graph = speaking | personalive_nodes(Link("sample"), "liveavatar_portrait_2_large.png", 4) | video_file()
    graph["video"].inputs |= {"stream": Link("animate"), "filename_prefix": "video/PersonaLive"}
    graph["video"].column = 7
    return graph


def demo() -> dict[str, Node]:
    """The core workflow with the shipped talker; ``run.py demo`` submits it too."""
    graph = core()
    graph["load"].inputs.update(checkpoint="tiny talker (shipped)", lora="tiny talker (shipped)")
    graph["image"].inputs["image"] = "liveavatar_portrait.png"
    graph["reference"].inputs.update(width=SIDE, height=SIDE)
    return graph


@dataclass(frozen=True)
class Workflow:
    """A shipped workflow.

    ``make`` gives its nodes. ``picture`` is the example that the templates browser shows with the ``caption``,
    ``note`` what a person reads beside the nodes, ``groups`` are titles with their first and last column, ``page_name``
    is the name in the templates browser where it is not the name of the API's file. ``app`` names what a page with an
    app mode offers: nodes with a widget, and the nodes whose results it shows.
    """

    make: Callable[[], Graph]
    picture: str
    caption: str
    note: str
    groups: Mapping[str, tuple[int, int]] = field(default_factory=lambda: TALKING)
    page_name: str = ""
    app: tuple[tuple[tuple[str, str], ...], tuple[str, ...]] | None = None


MASKS = {MODEL: (0, 0), YOURS: (1, 1), PREPARE: (2, 3), VIDEO: (4, 4)}
COMBINE = {**TALKING, VIDEO: (3, 4)}
IN_A_ROW = {"LiveAvatar": (0, 3), "PersonaLive": (4, 6), VIDEO: (7, 7)}
APP = ((("image", "image"), ("audio", "audio"), ("prompt", "text"), ("sample", "seed")), ("video",))

WORKFLOWS = {
    "demo": Workflow(
        demo, "portrait.png", "Start here", notes.DEMO, page_name="1 Start here - no download, any computer"
    ),
    "liveavatar": Workflow(
        basic, "portrait_large.png", "Speech to video, VideoHelperSuite", notes.VIDEO_HELPER_SUITE, COMBINE
    ),
    "liveavatar_core": Workflow(core, "portrait_large.png", "Speech to video, core nodes only", notes.CORE),
    "liveavatar.app": Workflow(
        core, "portrait_3.png", "As an app: portrait, speech, Run", notes.APP, app=APP
    ),
    "liveavatar_real_time": Workflow(
        real_time, "portrait_2_large.png", "As fast as it is spoken, large GPU", notes.REAL_TIME
    ),
    "liveavatar_host_loaders": Workflow(
        with_host_loaders, "portrait_2.png", "ComfyUI's own loaders: bf16, fp8, GGUF", notes.HOST_LOADERS
    ),
    "liveavatar_two_speakers": Workflow(
        two_speakers, "two_people.png", "Two people in one picture", notes.TWO_SPEAKERS, MASKS
    ),
    "liveavatar_pose_video": Workflow(
        pose_video, "pose.mp4", "Body movement from a pose video", notes.POSE_VIDEO
    ),
    "liveavatar_live_speech": Workflow(
        live_speech, "portrait_2_large.png", "Speech that arrives: microphone, program", notes.LIVE_SPEECH
    ),
    "personalive": Workflow(
        personalive, "driving.mp4", "Follows a video, VideoHelperSuite", notes.PERSONALIVE, COMBINE
    ),
    "personalive_core": Workflow(
        personalive_core, "driving.mp4", "Follows a video, core nodes only", notes.PERSONALIVE
    ),
    "personalive_from_speech": Workflow(
        personalive_from_speech,
        "portrait_2_large.png",
        "Speech drives another portrait",
        notes.PERSONALIVE_FROM_SPEECH,
        IN_A_ROW,
    ),
}
