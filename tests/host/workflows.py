"""The shipped workflows, made small enough for tests, and changes to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tools.environment import ROOT
from tools.workflows.catalogue import WORKFLOWS, page_name

FOLDER = ROOT / "workflows"
NAMES = sorted(name for name in WORKFLOWS if name.startswith("liveavatar"))

# Small files of the tests in place of the examples that the shipped workflows name.
SMALL_FILES = {
    "liveavatar_portrait_large.png": "portrait.png",
    "liveavatar_portrait_2_large.png": "portrait_2.png",
    "liveavatar_two_people.png": "two_people.png",
    "liveavatar_speech.ogg": "speech.wav",
    "liveavatar_speech_2.ogg": "speech_2.wav",
    "liveavatar_pose.mp4": "pose.mp4",
    "liveavatar_driving.mp4": "driving.mp4",
}
# What stands in for the files and sizes of the shipped workflows, by node type.
TINY: dict[str, dict[str, Any]] = {
    "LiveAvatarLoadCheckpoint": {"checkpoint": "tiny", "lora": "tiny-lora/liveavatar.safetensors"},
    "LiveAvatarApplyLora": {"lora": "tiny-lora/liveavatar.safetensors"},
    "UNETLoader": {"unet_name": "tiny_s2v.safetensors"},
    "VAELoader": {"vae_name": "tiny_wan_vae.safetensors"},
    "AudioEncoderLoader": {"audio_encoder_name": "random_wav2vec2_large.safetensors"},
    "LiveAvatarReferenceImage": {"width": 128, "height": 64},
    "LiveAvatarLoadFastDecoder": {"decoder": "tiny_taew2_1.safetensors"},
    "LiveAvatarSampler": {"max_seconds": 0.0, "performance": "auto"},
    "LiveAvatarLiveSpeech": {"max_seconds": 1.5},
}
# ComfyUI's CLIPLoader knows one size of UMT5, 11 GB of it. The CLIP of this checkpoint, as wide, replaces it.
WIDE_CLIP = {
    "checkpoint": "tiny-wide",
    "lora": "none",
    "lora_strength": 1.0,
    "precision": "auto",
    "download": False,
    "float8_copy": "off",
}

Api = dict[str, dict[str, Any]]


def ui_file(name: str) -> Path:
    """The workflow as a person drops it onto the page."""
    return FOLDER / f"{page_name(name)}.json"


def shipped(name: str) -> Api:
    """The workflow in API format, as it is shipped."""
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def tiny(name: str) -> Api:
    """The workflow on the tiny checkpoint, for a 64x128 or 128x64 video."""
    workflow = shipped(name)
    for node in workflow.values():
        for key, value in node["inputs"].items():
            if isinstance(value, str):
                node["inputs"][key] = SMALL_FILES.get(value, value)
    for type_, inputs in TINY.items():
        for node in every(workflow, type_):
            workflow[node]["inputs"].update(inputs)
    for node in every(workflow, "CLIPLoader"):
        clip = add(workflow, "LiveAvatarLoadCheckpoint", **WIDE_CLIP)
        relink(workflow, [node, 0], [clip, 1])
        del workflow[node]
    return workflow


def small(seconds: float = 0.32, **sampler: Any) -> Api:
    """The cheapest whole run: portrait and speech to one block of 64x64, written to the output folder."""
    workflow = tiny("liveavatar_core")
    change(workflow, "LiveAvatarReferenceImage", size="exact", width=64, height=64)
    change(workflow, "LiveAvatarSampler", max_seconds=seconds, **sampler)
    return workflow


def every(workflow: Api, type_: str) -> list[str]:
    """The ids of all nodes of a type."""
    return [number for number, node in workflow.items() if node["class_type"] == type_]


def only(workflow: Api, type_: str) -> str:
    """The id of the one node of a type."""
    (number,) = every(workflow, type_)
    return number


def change(workflow: Api, type_: str, **inputs: Any) -> None:
    """Set inputs of the one node of a type."""
    workflow[only(workflow, type_)]["inputs"].update(inputs)


def add(workflow: Api, type_: str, **inputs: Any) -> str:
    """Add a node and return its id."""
    number = str(max(map(int, workflow)) + 1)
    workflow[number] = {"class_type": type_, "inputs": copy.deepcopy(inputs)}
    return number


def put(workflow: Api, target: str, name: str, type_: str, slot: int = 0, **inputs: Any) -> str:
    """Add a node and connect it to input ``name`` of the one node of type ``target``; returns its id."""
    number = add(workflow, type_, **inputs)
    change(workflow, target, **{name: [number, slot]})
    return number


def put_conversation(workflow: Api, url: str, **inputs: Any) -> str:
    """Put a conversation with scripted services at ``url`` in the place of Encode Speech; returns its id."""
    encoder = workflow.pop(only(workflow, "LiveAvatarEncodeSpeech"))["inputs"]["audio_encoder"]
    service = {"url": url, "model": "scripted"}
    roles = {
        "mind": [add(workflow, "AvatarLanguageModel", **service, system_prompt="Be brief."), 0],
        "voice": [add(workflow, "AvatarVoice", **service), 0],
        "ears": [add(workflow, "AvatarEars", **service), 0],
    }
    given = {**roles, "audio_encoder": encoder, **inputs}
    return put(workflow, "LiveAvatarSampler", "speech", "AvatarConversation", **given)


def between(workflow: Api, target: str, name: str, type_: str, own: str, **inputs: Any) -> str:
    """Add a node in front of input ``name`` of ``target``; what came in there goes to its input ``own``."""
    source = workflow[only(workflow, target)]["inputs"][name]
    return put(workflow, target, name, type_, **{own: source}, **inputs)


def relink(workflow: Api, old: list[Any], new: list[Any]) -> None:
    """Let everything that is fed by output ``old`` be fed by output ``new``."""
    for node in workflow.values():
        for name, value in node["inputs"].items():
            if value == old:
                node["inputs"][name] = list(new)
