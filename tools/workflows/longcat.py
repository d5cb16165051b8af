"""The shipped workflows of LongCat-Video-Avatar."""

from __future__ import annotations

from . import notes
from .graphs import MASKS, TALKING, Link, Node, Workflow, two_halves, video_file

PROMPT = (
    "A person is talking to the camera, clearly and in a friendly way, with natural expressions and small movements of "
    "the head. The background is still, the light is soft."
)


def loaders() -> dict[str, Node]:
    return {
        "load": Node(
            "LongCatLoadModel",
            0,
            {
                "checkpoint": "LongCat-Video-Avatar-1.5/base_model",
                "lora": "auto",
                "lora_strength": 1.0,
                "precision": "auto",
                "download": False,
            },
        ),
        "clip": Node(
            "CLIPLoader",
            0,
            {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"},
        ),
        "vae": Node("VAELoader", 0, {"vae_name": "wan_2.1_vae.safetensors"}),
    }


def portrait(image: str = "liveavatar_portrait_large.png") -> dict[str, Node]:
    graph = loaders() | {
        "image": Node("LoadImage", 1, {"image": image}, 220, "Portrait"),
        "audio": Node("LoadAudio", 1, {"audio": "liveavatar_speech.ogg"}, 80, "Speech"),
        "prompt": Node(
            "CLIPTextEncode", 1, {"clip": Link("clip"), "text": PROMPT}, 80, "What the person does"
        ),
        "reference": Node(
            "LongCatReferenceImage",
            2,
            {
                "positive": Link("prompt"),
                "vae": Link("vae"),
                "size": "480p",
                "width": 832,
                "height": 480,
                "image": Link("image"),
            },
            extra_height=320,
        ),
        "speech": Node(
            "LiveAvatarEncodeSpeech", 2, {"audio_encoder": Link("load", 1), "audio": Link("audio")}
        ),
        "sample": Node(
            "LongCatSampler",
            3,
            {
                "longcat": Link("load"),
                "vae": Link("vae"),
                "positive": Link("reference"),
                "speech": Link("speech"),
                "seed": 42,
                "steps": 8,
                "text_guidance": 1.0,
                "audio_guidance": 1.0,
                "max_seconds": 0.0,
                "distilled": "auto",
                "overlap": 13,
                "reference_position": 10,
                "skip_range": 3,
                "blocks_on_cpu": -1,
            },
            extra_height=80,
        ),
    }
    graph |= video_file()
    graph["video"].inputs["filename_prefix"] = "video/LongCat"
    return graph


def two_speakers() -> dict[str, Node]:
    return two_halves(portrait("liveavatar_two_people.png"))


def continuation() -> dict[str, Node]:
    """The portrait's likeness is that of the video itself."""
    graph = portrait()
    del graph["image"], graph["reference"]
    graph |= {
        "file": Node("LoadVideo", 1, {"file": "liveavatar_driving.mp4"}, 340, "Video to go on from"),
        "parts": Node("GetVideoComponents", 2, {"video": Link("file")}),
        "past": Node(
            "LongCatContinueVideo",
            2,
            {
                "positive": Link("prompt"),
                "frames": Link("parts"),
                "fps": Link("parts", 2),
                "size": "480p",
                "width": 832,
                "height": 480,
            },
        ),
    }
    graph["sample"].inputs["positive"] = Link("past")
    return graph


WORKFLOWS = {
    "longcat_portrait": Workflow(
        portrait, "portrait_large.png", "LongCat: a portrait speaks", notes.LONGCAT, TALKING
    ),
    "longcat_two_speakers": Workflow(
        two_speakers, "two_people.png", "LongCat: two people", notes.LONGCAT_TWO, MASKS
    ),
    "longcat_continuation": Workflow(
        continuation, "driving.mp4", "LongCat: a video goes on", notes.LONGCAT_CONTINUATION, TALKING
    ),
}
