"""The shipped workflows about looks: a portrait that is made ready, moods, and gestures without a video."""

from __future__ import annotations

from typing import Any

from . import notes
from .graphs import MASKS, TALKING, Link, Node, Workflow, from_checkpoint, personalive_nodes, video_file

NEWER: dict[str, dict[str, Any]] = {
    "LoadBackgroundRemovalModel": {
        "display_name": "Load Background Removal Model",
        "python_module": "comfy_extras.nodes_bg_removal",
        "input": {"required": {"bg_removal_name": ["COMBO", {}]}},
        "output": ["BACKGROUND_REMOVAL"],
        "output_name": ["bg_model"],
    },
    "RemoveBackground": {
        "display_name": "Remove Background",
        "python_module": "comfy_extras.nodes_bg_removal",
        "input": {"required": {"bg_removal_model": ["BACKGROUND_REMOVAL", {}], "image": ["IMAGE", {}]}},
        "output": ["MASK"],
        "output_name": ["mask"],
    },
}
"""ComfyUI's own nodes that the oldest host lacks, as a newer one tells of them."""
GROUND = 0xD8DDE3
SIDE = 512


def prepare_portrait() -> dict[str, Node]:
    """Enlarged, cut to the head, evenly lit and put before a plain ground, then made to talk."""
    graph = from_checkpoint() | video_file()
    graph |= {
        "upscaler": Node("UpscaleModelLoader", 0, {"model_name": "RealESRGAN_x4plus.safetensors"}),
        "remover": Node("LoadBackgroundRemovalModel", 0, {"bg_removal_name": "birefnet.safetensors"}),
        "larger": Node(
            "ImageUpscaleWithModel", 2, {"upscale_model": Link("upscaler"), "image": Link("image")}
        ),
        "ready": Node(
            "AvatarPreparePortrait",
            2,
            {
                "image": Link("larger"),
                "width": SIDE,
                "height": SIDE,
                "head": 0.4,
                "headroom": 0.12,
                "light": 0.5,
                "level": True,
                "who": "largest",
                "vae": Link("load", 2),
            },
            extra_height=320,
        ),
        "matte": Node("RemoveBackground", 3, {"bg_removal_model": Link("remover"), "image": Link("ready")}),
        "ground": Node(
            "EmptyImage",
            3,
            {"width": SIDE, "height": SIDE, "batch_size": 1, "color": GROUND},
            title="Background",
        ),
        "portrait": Node(
            "ImageCompositeMasked",
            3,
            {
                "destination": Link("ground"),
                "source": Link("ready"),
                "x": 0,
                "y": 0,
                "resize_source": False,
                "mask": Link("matte"),
            },
        ),
    }
    graph["reference"].inputs["image"] = Link("portrait")
    graph["reference"].column = 3
    graph["sample"].column = graph["video"].column = 4
    return graph


def _preset(emotion: str, title: str) -> Node:
    choices = {
        "who": "A person",
        "clothes": "",
        "place": "",
        "emotion": emotion,
        "energy": "natural",
        "head": "natural",
        "hands": "out of sight",
        "gaze": "at the camera",
        "shot": "head and shoulders",
        "light": "soft",
        "style": "as in the picture",
        "more": "",
    }
    return Node("LiveAvatarPromptPreset", 1, choices, title=title)


def moods() -> dict[str, Node]:
    """Two prompts from choices; the video changes from one to the other while it is made."""
    graph = from_checkpoint() | video_file()
    graph["prompt"].inputs["text"] = Link("usual")
    graph["prompt"].column, graph["prompt"].title = 2, ""
    graph |= {
        "usual": _preset("neutral", "What the person does"),
        "merry": _preset("happy", "What the person does when happy"),
        "merry_prompt": Node("CLIPTextEncode", 2, {"clip": Link("load", 1), "text": Link("merry")}, 80),
        "mood": Node(
            "LiveAvatarMood", 2, {"positive": Link("merry_prompt"), "name": "happy", "times": "3-6, 9-"}
        ),
    }
    graph["sample"].inputs["moods"] = Link("mood")
    return graph


def gestures() -> dict[str, Node]:
    """PersonaLive without a driving video: the head idles, then nods."""
    graph = personalive_nodes(Link("idle"), column=0) | video_file()
    del graph["motion"]

    def gesture(name: str, seconds: float, degrees: float) -> Node:
        values = {"gesture": name, "seconds": seconds, "degrees": degrees, "times": 2, "seed": 42}
        return Node("PersonaLiveHeadGesture", 3, {"portrait": Link("portrait"), **values})

    graph |= {
        "idle": gesture("idle", 6.0, 5.0),
        "nod": gesture("nod", 1.6, 8.0),
        "chain": Node(
            "PersonaLiveChainMotions",
            3,
            {"first": Link("idle"), "second": Link("nod"), "seconds_between": 0.4},
        ),
    }
    graph["animate"].inputs["motion"] = Link("chain")
    graph["animate"].column = graph["video"].column = 4
    graph["video"].inputs |= {"stream": Link("animate"), "filename_prefix": "video/PersonaLive"}
    return graph


WORKFLOWS = {
    "prepare_portrait": Workflow(
        prepare_portrait, "portrait_large.png", "A portrait made ready", notes.PREPARE_PORTRAIT, MASKS
    ),
    "liveavatar_moods": Workflow(
        moods, "portrait_3.png", "Moods that change while it talks", notes.MOODS, TALKING
    ),
    "personalive_gestures": Workflow(
        gestures, "portrait_large.png", "Idles and nods, without a video", notes.GESTURES, MASKS
    ),
}
