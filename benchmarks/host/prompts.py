"""The prompts of `benchmarks.host`: shipped workflows with the benchmark's weights, each built on the one before."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.environment import ROOT

from .weights import CHECKPOINT, HOST_LOADERS, LONGCAT, LORA, TEXT

LIVE_ID = "a-benchmark-that-speaks-1"
WORKFLOWS = {
    "core": "liveavatar_core",
    **dict.fromkeys(HOST_LOADERS, "liveavatar_core"),
    "pose": "liveavatar_pose_video",
    "live": "liveavatar_live_speech",
    "personalive": "personalive_core",
    "ditto": "ditto_core",
    **dict.fromkeys(LONGCAT, "longcat_portrait"),
    "sdxl": None,
}
"""The shipped workflow of each kind of prompt; SDXL's is none of the pack's."""
SINGLE = {"bf16": "benchmark_bf16.safetensors", "fp8": "benchmark_fp8_scaled.safetensors"}
GGUF = "benchmark_Q8_0.gguf"
OPTIONS = {
    **dict.fromkeys(("precision", "caches", "attention", "graphs"), "auto"),
    **dict.fromkeys(("caches_in_cpu_memory", "blocks_in_cpu_memory"), -1),
    "last_step": "forward",
    "gpus": "one",
}
"""The defaults of LiveAvatar Performance Options."""
GROWING = "resumed"
"""Name of the videos that are gone on with."""

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Prompt:
    """What is submitted.

    Attributes:
        name: of the file that it makes in ``output/video``.
        stop: seconds of making frames after which it is interrupted; None: it runs to its end.
    """

    name: str
    graph: Graph
    stop: float | None = None


def kind_of(run: str) -> str:
    """The kind of a run such as ``core:auto+seed``; SystemExit for one that there is not."""
    kind = re.split("[:+]", run, maxsplit=1)[0]
    if kind not in WORKFLOWS:
        raise SystemExit(f"{run}: choose one of {', '.join(WORKFLOWS)}.")
    return kind


class Prompts:
    """The prompts of one host in their order: everything that a prompt does not change is as it was before it."""

    def __init__(self, tiny: bool) -> None:
        self.tiny, self.seed, self.number = tiny, 7, 0
        self.portrait, self.text, self.steps = 1, "A person talks.", 4
        self.size = (64, 64) if tiny else (704, 384)
        self.copy = "off"
        self.options: dict[str, str] = {}

    def build(self, run: str) -> Prompt:
        """The prompt of ``KIND:PERFORMANCE+CHANGE...``; SystemExit where nobody knows a part of it."""
        kind = kind_of(run)
        head, *changes = run.split("+")
        performance, kept, stop = head.partition(":")[2] or "auto", False, None
        for change in changes:
            name, value = re.match(r"([a-z]*)(.*)", change).groups()
            if name == "seed":
                self.seed += 1
            elif name == "portrait":
                self.portrait = 3 - self.portrait
            elif name == "prompt":
                self.text += " Again."
            elif name == "copy":
                self.copy = "on"
            elif name == "gpus":
                self.options["gpus"] = "one" if value == "1" else value
            elif name == "graphs":
                self.options["graphs"] = "on"
            elif name == "skip":
                self.options["last_step"] = "skip"
            elif name == "steps":
                self.steps = int(value)
            elif name == "size":
                self.size = tuple(map(int, value.split("x")))
            elif name in ("snapshot", "resume"):
                kept, stop = True, float(value) if name == "snapshot" else None
            else:
                raise SystemExit(f"{run}: there is no change called {change}.")
        self.number += 1
        name = f"{self.number:02d}_{kind}_{performance.replace(' ', '_')}"
        prefix = f"video/{GROWING if kept else name}"
        if kind == "sdxl":
            return Prompt(name, self._sdxl(prefix))
        return Prompt(GROWING if kept else name, self._avatar(kind, performance, prefix, kept), stop)

    def _avatar(self, kind: str, performance: str, prefix: str, resume: bool) -> Graph:
        file = ROOT / "workflows" / "api" / f"{WORKFLOWS[kind]}.json"
        graph = json.loads(file.read_text(encoding="utf-8"))
        size = {"width": self.size[0], "height": self.size[1]}
        picture = "face" if kind == "ditto" else "portrait"
        settings = {
            "LiveAvatarLoadCheckpoint": {"checkpoint": CHECKPOINT, "lora": LORA, "float8_copy": self.copy},
            "LiveAvatarReferenceImage": {"size": "exact", **size},
            "LiveAvatarSampler": {"seed": self.seed, "steps": self.steps, "performance": performance},
            "AvatarStreamToVideo": {"filename_prefix": prefix, "resume": resume},
            "LiveAvatarLiveSpeech": {"id": LIVE_ID},
            "LoadImage": {"image": f"{picture}{'' if self.portrait == 1 else 2}.png"},
            "LoadAudio": {"audio": "speech.wav"},
            "LoadVideo": {"file": "pose.mp4" if kind == "pose" else "driving.mp4"},
            "CLIPTextEncode": {"text": self.text},
            "PersonaLiveLoadModel": {"checkpoint": "benchmark"},
            "PersonaLivePortrait": {"width": 128, "height": 128} if self.tiny else {},
            "DittoLoadModel": {"checkpoint": "benchmark"},
            "DittoPortrait": {"max_size": 320} if self.tiny else {},
            "DittoAnimate": {"seed": self.seed} | ({"steps": 2, "max_seconds": 0.4} if self.tiny else {}),
            "LongCatLoadModel": {"checkpoint": LONGCAT.get(kind), "precision": performance},
            "LongCatReferenceImage": {
                "size": "exact",
                **(size if self.tiny else {"width": 832, "height": 480}),
            },
            "LongCatSampler": {"seed": self.seed},
            "VAELoader": {"vae_name": "benchmark_vae.safetensors"},
        }
        for node in graph.values():
            node["inputs"].update(settings.get(node["class_type"], {}))
            if self.options and node["class_type"] == "LiveAvatarSampler":
                node["inputs"]["options"] = ["30", 0]
        if self.options:
            graph["30"] = {"class_type": "LiveAvatarPerformanceOptions", "inputs": OPTIONS | self.options}
        changed: dict[str, Callable[[Graph, str], None]] = {
            **dict.fromkeys(HOST_LOADERS, _host_loaders),
            **dict.fromkeys(LONGCAT, _narrow_text_encoder),
        }
        if kind in changed:
            changed[kind](graph, kind)
        return graph

    def _sdxl(self, prefix: str) -> Graph:
        """ComfyUI's first workflow, at SDXL's size."""
        side = 64 if self.tiny else 1024
        sampler = {"seed": self.seed, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
        nodes = {
            "1": ("CheckpointLoaderSimple", {"ckpt_name": "benchmark_sdxl.safetensors"}),
            "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": self.text}),
            "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
            "4": ("EmptyLatentImage", {"width": side, "height": side, "batch_size": 1}),
            "5": (
                "KSampler",
                {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
                | {**sampler, "denoise": 1.0},
            ),
            "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
            "7": ("SaveImage", {"images": ["6", 0], "filename_prefix": prefix}),
        }
        return {key: {"class_type": type_, "inputs": inputs} for key, (type_, inputs) in nodes.items()}


def _host_loaders(graph: Graph, kind: str) -> None:
    """Model and VAE by loaders of ComfyUI or ComfyUI-GGUF; text and audio encoder stay: they have one size there."""
    loader = (
        {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": GGUF}}
        if kind == "gguf"
        else {"class_type": "UNETLoader", "inputs": {"unet_name": SINGLE[kind], "weight_dtype": "default"}}
    )
    lora = {"model": ["20", 0], "lora": LORA, "strength": 1.0, "download": False}
    (own,) = (key for key, node in graph.items() if node["class_type"] == "LiveAvatarLoadCheckpoint")
    graph["20"] = loader
    graph["21"] = {"class_type": "LiveAvatarApplyLora", "inputs": lora}
    graph["22"] = {"class_type": "VAELoader", "inputs": {"vae_name": "benchmark_vae.safetensors"}}
    _relink(graph, [own, 0], ["21", 0])
    _relink(graph, [own, 2], ["22", 0])


def _narrow_text_encoder(graph: Graph, kind: str) -> None:
    """ComfyUI's loader knows text encoders of full size only (11 GB)."""
    (clip,) = (key for key, node in graph.items() if node["class_type"] == "CLIPLoader")
    inputs = {
        "checkpoint": TEXT,
        "lora": "none",
        "lora_strength": 1.0,
        "precision": "auto",
        "float8_copy": "off",
        "download": False,
    }
    graph["20"] = {"class_type": "LiveAvatarLoadCheckpoint", "inputs": inputs}
    _relink(graph, [clip, 0], ["20", 1])
    del graph[clip]


def _relink(graph: Graph, old: list[Any], new: list[Any]) -> None:
    for node in graph.values():
        for key, value in node["inputs"].items():
            if value == old:
                node["inputs"][key] = new
