"""The shipped workflows of Ditto."""

from __future__ import annotations

from . import notes
from .graphs import COMBINE, Link, Node, Workflow, basic, live_speech, video_file


def portrait(source: Node) -> dict[str, Node]:
    """Ditto with a finished speech; ``source`` loads the person."""
    return {
        "load": Node(
            "DittoLoadModel",
            0,
            {
                "checkpoint": "digital-avatar/ditto-talkinghead",
                "precision": "auto",
                "download": False,
                "onnx": "auto",
            },
        ),
        "source": source,
        "audio": Node("LoadAudio", 1, {"audio": "liveavatar_speech.ogg"}, 80, "Speech"),
        "portrait": Node(
            "DittoPortrait",
            2,
            {
                "ditto": Link("load"),
                "source": Link("source"),
                "who": "largest",
                "max_size": 1920,
                "max_frames": 250,
                "fps": 25.0,
            },
            extra_height=320,
        ),
        "speech": Node("LiveAvatarEncodeSpeech", 2, {"audio": Link("audio")}),
        "controls": Node(
            "DittoControls",
            1,
            {
                "emotion": "natural",
                "emotion_strength": 1.0,
                "mouth": 1.0,
                "head": 1.0,
                "blinks": "random",
                "whole_face": False,
                "nod": 0.0,
                "turn": 0.0,
                "tilt": 0.0,
                "gaze_right": 0.0,
                "gaze_up": 0.0,
                "eyes_open": 0.0,
                "mix": "",
            },
            title="How the person behaves",
        ),
        "sample": Node(
            "DittoAnimate",
            3,
            {
                "ditto": Link("load"),
                "portrait": Link("portrait"),
                "speech": Link("speech"),
                "controls": Link("controls"),
                "seed": 42,
                "steps": 0,
                "max_seconds": 0.0,
                "speed": "plain",
            },
            extra_height=40,
        ),
    }


def photograph(image: str = "liveavatar_portrait_large.png") -> dict[str, Node]:
    return portrait(Node("LoadImage", 1, {"image": image}, 220, "Photograph"))


def as_file(graph: dict[str, Node]) -> dict[str, Node]:
    graph = graph | video_file()
    graph["video"].inputs["filename_prefix"] = "video/Ditto"
    return graph


def core() -> dict[str, Node]:
    return as_file(photograph())


def combined() -> dict[str, Node]:
    shown = {name: node for name, node in basic().items() if name in ("frames", "combine")}
    shown["combine"].inputs["filename_prefix"] = "Ditto"
    return photograph() | shown


def live() -> dict[str, Node]:
    graph = as_file(photograph("liveavatar_portrait_2_large.png"))
    del graph["audio"]
    graph["speech"] = live_speech()["speech"]
    del graph["speech"].inputs["audio_encoder"]
    return graph


def source_video() -> dict[str, Node]:
    return as_file(portrait(Node("LoadVideo", 1, {"file": "liveavatar_driving.mp4"}, 340, "Video")))


WORKFLOWS = {
    "ditto": Workflow(
        combined,
        "portrait_large.png",
        "Ditto: speech to video, VideoHelperSuite",
        notes.DITTO_COMBINE,
        COMBINE,
    ),
    "ditto_core": Workflow(core, "portrait_large.png", "Ditto: a photograph speaks", notes.DITTO),
    "ditto_live_speech": Workflow(
        live, "portrait_2_large.png", "Ditto: microphone, program", notes.DITTO_LIVE
    ),
    "ditto_source_video": Workflow(
        source_video, "driving.mp4", "Ditto: new lips for a video", notes.DITTO_VIDEO
    ),
}
