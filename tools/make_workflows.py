"""Writes the shipped workflows: for the page, for the API, and their pictures in the templates browser.

    VHS_PATH=/path/to/ComfyUI-VideoHelperSuite python -m tools.make_workflows

A workflow is described once, as a table of nodes; the running host tells in which order a node shows its
widgets. Run it after a change to a node's inputs. The pictures are drawn from our own portrait.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .demo_media import portrait
from .environment import ROOT

FOLDER = ROOT / "workflows"
COLUMN, GAP = 400, 40
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


Graph = Mapping[str, Node]


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
            1,
            {"model": Link("unet"), "lora": "Quark-Vision/Live-Avatar", "strength": 1.0, "download": False},
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
    model: Link, clip: Link, vae: Link, audio_encoder: Link, image: str = "portrait.png"
) -> dict[str, Node]:
    """Portrait, speech, prompt and sampler."""
    return {
        "image": Node("LoadImage", 0, {"image": image}, extra_height=220),
        "audio": Node("LoadAudio", 0, {"audio": "speech.wav"}, extra_height=80),
        "prompt": Node("CLIPTextEncode", 1, {"clip": clip, "text": PROMPT}, extra_height=80),
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
            },
            extra_height=80,
        ),
    }


def from_checkpoint(**options: Any) -> dict[str, Node]:
    links = {"model": 0, "clip": 1, "vae": 2, "audio_encoder": 3}
    return loaders() | talking(**{name: Link("load", slot) for name, slot in links.items()}, **options)


def video_file(save_output: bool = True) -> dict[str, Node]:
    return {
        "video": Node(
            "AvatarStreamToVideo",
            4,
            {
                "stream": Link("sample"),
                "filename_prefix": "video/LiveAvatar",
                "save_output": save_output,
                "crf": 18,
                "resume": True,
                "snapshot_gb": 40,
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
    save = {"video": Link("video"), "filename_prefix": "video/LiveAvatar", "format": "auto", "codec": "auto"}
    graph = from_checkpoint() | video_file(save_output=False) | {"save": Node("SaveVideo", 4, save, 220)}
    graph["video"].column = 3
    return graph


def with_host_loaders() -> dict[str, Node]:
    return host_loaders() | talking(Link("lora"), Link("clip"), Link("vae"), Link("wav2vec2")) | video_file()


def two_speakers() -> dict[str, Node]:
    graph = from_checkpoint(image="two_people.png") | video_file()
    half = {"width": 256, "height": 512}
    graph |= {
        "audio_2": Node("LoadAudio", 0, {"audio": "speech_2.wav"}, extra_height=80),
        "nobody": Node("SolidMask", 1, {"value": 0.0, "width": 512, "height": 512}),
        "half": Node("SolidMask", 1, {"value": 1.0, **half}),
        "left": Node(
            "MaskComposite",
            2,
            {"destination": Link("nobody"), "source": Link("half"), "x": 0, "y": 0, "operation": "add"},
        ),
        "right": Node(
            "MaskComposite",
            2,
            {"destination": Link("nobody"), "source": Link("half"), "x": 256, "y": 0, "operation": "add"},
        ),
        "masks": Node(
            "LiveAvatarSpeakerMasks",
            3,
            {"speech": Link("speech"), "mask": Link("left"), "mask_2": Link("right")},
        ),
    }
    graph["speech"].inputs["audio_2"] = Link("audio_2")
    graph["sample"].inputs["speech"] = Link("masks")
    graph["sample"].column, graph["video"].column = 4, 5
    return graph


def pose_video() -> dict[str, Node]:
    graph = from_checkpoint() | video_file()
    graph |= {
        "file": Node("LoadVideo", 0, {"file": "pose.mp4"}, extra_height=200),
        "parts": Node("GetVideoComponents", 1, {"video": Link("file")}),
        "pose": Node(
            "LiveAvatarPoseVideo",
            3,
            {
                "positive": Link("reference"),
                "vae": Link("load", 2),
                "frames": Link("parts"),
                "fps": Link("parts", 2),
            },
        ),
    }
    graph["sample"].inputs["positive"] = Link("pose")
    graph["sample"].column, graph["video"].column = 4, 5
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
    graph["decoder"] = Node("LiveAvatarLoadFastDecoder", 2, {"decoder": "taew2_1.safetensors"})
    graph["sample"].inputs |= {"decoder": Link("decoder"), "steps": 3, "performance": "fast"}
    return graph


def personalive_nodes(driving: Link, image: str = "portrait.png", column: int = 0) -> dict[str, Node]:
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
        "who": Node("LoadImage", column, {"image": image}, extra_height=220),
        "portrait": Node(
            "PersonaLivePortrait",
            column + 1,
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
            column + 1,
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
            column + 2,
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
    file = Node("LoadVideo", 0, {"file": "driving.mp4"}, extra_height=340)
    return {"file": file} | personalive_nodes(Link("file"))


def personalive() -> dict[str, Node]:
    graph = driven() | {name: node for name, node in basic().items() if name in ("frames", "combine")}
    graph["frames"].inputs["stream"] = Link("animate")
    graph["frames"].column, graph["combine"].column = 2, 3
    graph["combine"].inputs |= {"frame_rate": Link("frames", 2), "filename_prefix": "PersonaLive"}
    return graph


def personalive_core() -> dict[str, Node]:
    graph = driven() | {name: node for name, node in core().items() if name in ("video", "save")}
    graph["video"].inputs["stream"] = Link("animate")
    graph["save"].inputs["filename_prefix"] = "video/PersonaLive"
    graph["video"].column, graph["save"].column = 2, 3
    return graph


def personalive_from_speech() -> dict[str, Node]:
    """LiveAvatar speaks, and PersonaLive lets another portrait do the same."""
    speaking = from_checkpoint()
    graph = speaking | personalive_nodes(Link("sample"), "portrait_2.png", 4) | video_file()
    graph["video"].inputs |= {"stream": Link("animate"), "filename_prefix": "video/PersonaLive"}
    graph["video"].column = 7
    return graph


def demo() -> dict[str, Node]:
    """What ``run.py demo`` submits: the core workflow with the shipped talker and its example files."""
    graph = core()
    graph["load"].inputs.update(checkpoint="tiny talker (shipped)", lora="tiny talker (shipped)")
    graph["image"].inputs["image"] = "liveavatar_portrait.png"
    graph["audio"].inputs["audio"] = "liveavatar_speech.ogg"
    graph["reference"].inputs.update(width=192, height=192)
    return graph


WORKFLOWS = {
    "demo": (demo, "The shipped tiny talker: runs at once, anywhere"),
    "liveavatar": (basic, "Speech to talking portrait, with VideoHelperSuite"),
    "liveavatar_core": (core, "Speech to talking portrait, core nodes only"),
    "liveavatar_real_time": (real_time, "As fast as it is spoken, on a large GPU"),
    "liveavatar_host_loaders": (with_host_loaders, "With ComfyUI's own model loaders"),
    "liveavatar_two_speakers": (two_speakers, "Two people in one picture"),
    "liveavatar_pose_video": (pose_video, "Body movement from a pose video"),
    "liveavatar_live_speech": (live_speech, "Speech that arrives while the video is made"),
    "personalive": (personalive, "A portrait follows a video, with VideoHelperSuite"),
    "personalive_core": (personalive_core, "A portrait follows a video, core nodes only"),
    "personalive_from_speech": (personalive_from_speech, "Speech drives another portrait"),
}


def api_format(graph: Graph, titles: Mapping[str, str]) -> dict[str, Any]:
    """The graph as ComfyUI's API takes it."""
    ids = {name: str(number) for number, name in enumerate(graph, 1)}

    def value(item: Any) -> Any:
        return [ids[item.name], item.slot] if isinstance(item, Link) else item

    return {
        ids[name]: {
            "class_type": node.type,
            "inputs": {key: value(item) for key, item in node.inputs.items()},
            "_meta": {"title": titles[node.type]},
        }
        for name, node in graph.items()
    }


def heights(slots: int, widgets: int, extra: int) -> tuple[int, int]:
    """Height of a node on the canvas, and what it needs in both renderers: Nodes 2.0 has taller widgets and badges."""
    return 14 + 20 * slots + 24 * widgets + extra, 42 + 20 * slots + 28 * widgets + extra


def page_format(graph: Graph, info: Mapping[str, Any]) -> dict[str, Any]:
    """The graph as ComfyUI's page saves it. ``info`` is the host's /object_info."""
    ids = {name: number for number, name in enumerate(graph, 1)}
    links: list[list[Any]] = []
    nodes: list[dict[str, Any]] = []
    tops: dict[int, int] = {}
    for order, (name, node) in enumerate(graph.items()):
        about = info[node.type]
        declared = {**about["input"].get("required", {}), **about["input"].get("optional", {})}
        inputs, widgets = [], {}
        for key, (kind, *options) in declared.items():
            item = node.inputs.get(key)
            is_widget = isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
            if is_widget:
                # A widget that is fed by a link keeps its default underneath.
                default = (options[0] if options else {}).get("default")
                widgets[key] = default if isinstance(item, Link) or item is None else item
            if not is_widget or isinstance(item, Link):
                socket: dict[str, Any] = {"name": key, "type": "COMBO" if isinstance(kind, list) else kind}
                if is_widget:
                    socket["widget"] = {"name": key}
                socket["link"] = None
                if isinstance(item, Link):
                    source = graph[item.name]
                    socket["link"] = len(links) + 1
                    type_ = info[source.type]["output"][item.slot]
                    links.append([len(links) + 1, ids[item.name], item.slot, ids[name], len(inputs), type_])
                inputs.append(socket)
            if is_widget and (options[0] if options else {}).get("control_after_generate"):
                widgets["control_after_generate"] = "fixed"
        values: Any = list(widgets.values())
        if node.type == "VHS_VideoCombine":  # keeps its widgets by name, those of the chosen format included
            values = {key: item for key, item in node.inputs.items() if not isinstance(item, Link)}
        height, needed = heights(max(len(inputs), len(about["output"])), len(values), node.extra_height)
        top = tops.get(node.column, 0)
        tops[node.column] = top + needed + GAP + 30
        nodes.append(
            {
                "id": ids[name],
                "type": node.type,
                "pos": [node.column * COLUMN, top],
                "size": [COLUMN - GAP * 2, height],
                "flags": {},
                "order": order,
                "mode": 0,
                "inputs": inputs,
                "outputs": [
                    {"name": label, "type": type_, "links": []}
                    for label, type_ in zip(about["output_name"], about["output"], strict=True)
                ],
                "properties": {"Node name for S&R": node.type},
                "widgets_values": values,
            }
        )
    for number, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(number)
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def draw_picture(path: Path, caption: str) -> None:
    """A picture for the templates browser: our portrait with a caption."""
    with tempfile.TemporaryDirectory() as folder:
        face = Image.open(portrait(Path(folder) / "portrait.png")).convert("RGB")
    band = ImageDraw.Draw(face)
    band.rectangle((0, 440, 512, 512), fill=(24, 32, 44))
    band.text((256, 476), caption, fill="white", anchor="mm", font=ImageFont.load_default(size=20))
    face.save(path, quality=88)


def main() -> int:
    # The host of the tests is the one with VideoHelperSuite linked in.
    from tests.host.client import Host

    with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as host:
        info = host.get("/object_info")
    if "VHS_VideoCombine" not in info:
        print("VHS_PATH must name a ComfyUI-VideoHelperSuite folder.", file=sys.stderr)
        return 1
    titles = {name: about["display_name"] for name, about in info.items()}
    (FOLDER / "api").mkdir(parents=True, exist_ok=True)
    graphs = {name: make() for name, (make, _) in WORKFLOWS.items()}
    for name, graph in graphs.items():
        write_json(FOLDER / f"{name}.json", page_format(graph, info))
        draw_picture(FOLDER / f"{name}.jpg", WORKFLOWS[name][1])
        write_json(FOLDER / "api" / f"{name}.json", api_format(graph, titles))
    return 0


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
