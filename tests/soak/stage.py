"""A host with tiny models of every engine, scripted services, and one small workflow for each node of the pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.host import test_ditto, test_longcat, test_personalive
from tests.host.client import Host
from tests.host.media import make_inputs
from tests.host.models import install_tiny_models
from tests.host.test_personalive import write_driving
from tests.host.workflows import Api, add, between, change, every, only, put, put_conversation, small
from tools.comfyui import link_folder
from tools.demo_media import portrait
from tools.scripted_services import Script, running_services
from tools.tiny_ditto import photograph, write_tiny_ditto
from tools.tiny_ditto_graphs import write_graphs
from tools.tiny_longcat import make as make_longcat
from tools.tiny_personalive import write_tiny_personalive

ODD_PACK = Path(__file__).parent / "odd_pack"
SECONDS = 0.32
LEAST_STEPS = {"PersonaLiveAnimate": 4, "DittoAnimate": 2, "LongCatSampler": 8}
ID = "a-soak-that-listens-"


class Stage(NamedTuple):
    """A running host and the workflows to spoil, by name."""

    host: Host
    workflows: dict[str, Api]

    def workflow_with(self, node: str) -> str | None:
        """The first workflow that has this node."""
        return next((name for name, graph in self.workflows.items() if every(graph, node)), None)

    def check(self) -> None:
        """HostError where a workflow fails before it is spoiled: whatever is done to it would be survived."""
        for graph in self.workflows.values():
            self.host.run(graph)


@contextmanager
def on_stage(folder: Path) -> Iterator[Stage]:
    """A host with everything under ``folder``."""
    host = Host(folder)
    link_folder(ODD_PACK, folder / "custom_nodes" / "soak_odd")
    install_tiny_models(host.models_dir)
    write_tiny_personalive(host.models_dir / "personalive" / "tiny")
    write_graphs(write_tiny_ditto(host.models_dir / "ditto" / "tiny"))
    made = make_longcat(host.models_dir / "longcat" / "made")
    (made / "LongCat-Video-Avatar-1.5").rename(host.models_dir / "longcat" / "tiny-1.5")
    make_inputs(host.input_dir)
    _more_inputs(host.input_dir)
    with running_services(Script()) as url, host:
        yield Stage(host, _workflows(host, url))


def _more_inputs(folder: Path) -> None:
    face = np.asarray(Image.open(portrait(folder / "face.png", 256)))
    Image.fromarray(face[:, ::-1]).resize((512, 512)).save(folder / "portrait_2.png")
    person = photograph((120, 150, 50), size=(240, 320))
    person.save(folder / "photograph.png")
    write_driving(folder / "driving.mp4", [np.roll(face, 3 * number, 1) for number in range(6)])
    write_driving(folder / "old.mp4", [np.roll(face, 3 * number, 1) for number in range(24)])
    write_driving(folder / "walking.mp4", [np.asarray(person)] * 6)
    rows = [{"image": "portrait.png", "audio": "speech.wav", "output": "one", "seed": 1}]
    (folder / "rows.json").write_text(json.dumps(rows))


def _workflows(host: Host, url: str) -> dict[str, Api]:
    found = {
        "liveavatar": small(SECONDS),
        "prepared": _prepared(),
        "speech file": _speech_file(),
        "frames": _frames(),
        "moods": _moods(),
        "two speakers": _tiny_liveavatar("liveavatar_two_speakers"),
        "pose": _tiny_liveavatar("liveavatar_pose_video"),
        "decoder": _decoder(),
        "lora": _lora(),
        "live speech": _live_speech(),
        "measured": _measured(),
        "personalive": test_personalive.small(),
        "gestures": test_personalive.small("personalive_gestures"),
        "motions": _motions(),
        "ditto": _ditto("ditto_core"),
        "ditto video": _ditto("ditto_source_video"),
        "longcat": test_longcat.small(),
        "longcat continued": test_longcat.small("longcat_continuation"),
        "longcat speakers": test_longcat.small("longcat_two_speakers"),
        "longcat lora": _longcat_lora(),
        "services": _services(url),
        "conversation": _conversation(url),
        "realtime": _realtime(url),
        "batch": _batch(),
    }
    for graph in found.values():
        for node in graph.values():
            if "steps" in node["inputs"] and not isinstance(node["inputs"]["steps"], list):
                node["inputs"]["steps"] = LEAST_STEPS.get(node["class_type"], 1)
    return found


def _tiny_liveavatar(name: str) -> Api:
    graph = test_personalive.tiny(name)
    change(graph, "LiveAvatarReferenceImage", size="exact", width=64, height=64)
    change(graph, "LiveAvatarSampler", max_seconds=SECONDS)
    return graph


def _prepared() -> Api:
    graph = small(SECONDS)
    whole = add(graph, "SolidMask", value=1.0, width=256, height=512)
    usual = {"width": 64, "height": 64, "head": 0.4, "headroom": 0.12, "light": 0.5, "level": False}
    vae = [only(graph, "LiveAvatarLoadCheckpoint"), 2]
    between(
        graph,
        "LiveAvatarReferenceImage",
        "image",
        "AvatarPreparePortrait",
        "image",
        face=[whole, 0],
        vae=vae,
        **usual,
    )
    person = [add(graph, "SolidMask", value=0.5, width=64, height=64), 0]
    behind = [add(graph, "LoadImage", image="face.png"), 0]
    between(
        graph,
        "AvatarStreamToVideo",
        "stream",
        "AvatarBackground",
        "stream",
        colour="#00b140",
        mask=person,
        image=behind,
    )
    return graph


def _speech_file() -> Api:
    graph = small(SECONDS)
    put(graph, "LiveAvatarEncodeSpeech", "audio", "LiveAvatarLoadSpeechFile", audio="speech.wav")
    alone = {"precision": "auto", "caches": "auto", "attention": "auto", "last_step": "forward"}
    waiting = {"caches_in_cpu_memory": -1, "blocks_in_cpu_memory": -1, "gpus": "one"}
    put(graph, "LiveAvatarSampler", "options", "LiveAvatarPerformanceOptions", **alone, **waiting)
    return graph


def _frames() -> Api:
    graph = small(SECONDS)
    writer = only(graph, "AvatarStreamToVideo")
    stream = graph.pop(writer)["inputs"]["stream"]
    frames = add(graph, "AvatarStreamToFrames", stream=stream, frames="batch")
    add(graph, "PreviewImage", images=[frames, 0])
    return graph


def _moods() -> Api:
    graph = small(SECONDS)
    clip = [only(graph, "LiveAvatarLoadCheckpoint"), 1]
    text = {"who": "A person", "clothes": "", "place": "", "emotion": "happy", "energy": "natural"}
    text |= {"head": "natural", "hands": "at rest", "gaze": "at the camera", "shot": "head"}
    preset = add(graph, "LiveAvatarPromptPreset", light="soft", style="photograph", **text)
    prompt = add(graph, "CLIPTextEncode", clip=clip, text=[preset, 0])
    mood = add(graph, "LiveAvatarMood", positive=[prompt, 0], name="happy", times="0.1-0.2")
    second = add(graph, "LiveAvatarMood", positive=[prompt, 0], name="sad", times="0.2-0.3", moods=[mood, 0])
    change(graph, "LiveAvatarSampler", moods=[second, 0])
    return graph


def _decoder() -> Api:
    graph = small(SECONDS)
    put(
        graph, "LiveAvatarSampler", "decoder", "LiveAvatarLoadFastDecoder", decoder="tiny_taew2_1.safetensors"
    )
    return graph


def _lora() -> Api:
    graph = small(SECONDS)
    inputs = {"lora": "tiny-lora/liveavatar.safetensors", "strength": 1.0, "download": False}
    between(graph, "LiveAvatarSampler", "model", "LiveAvatarApplyLora", "model", **inputs)
    return graph


def _live_speech() -> Api:
    graph = small(0.0)
    encoder = graph.pop(only(graph, "LiveAvatarEncodeSpeech"))["inputs"]["audio_encoder"]
    del graph[only(graph, "LoadAudio")]
    inputs = {"max_seconds": SECONDS, "sample_rate": "24000", "id": ID + "one", "file": "speech.wav"}
    put(graph, "LiveAvatarSampler", "speech", "LiveAvatarLiveSpeech", audio_encoder=encoder, **inputs)
    return graph


def _measured() -> Api:
    graph = small(SECONDS)
    between(graph, "AvatarStreamToVideo", "stream", "AvatarMeasureStream", "stream", frames_per_latent=4)
    video = add(graph, "LoadVideo", file="old.mp4")
    face = add(graph, "LoadImage", image="face.png")
    measured = add(
        graph,
        "AvatarMeasureVideo",
        video=[video, 0],
        reference=[face, 0],
        face="0.3,0.1,0.7,0.6",
        blocks="12,4,9",
    )
    add(graph, "PreviewAny", source=[measured, 0])
    return graph


def _motions() -> Api:
    graph = test_personalive.small()
    source = graph[only(graph, "PersonaLiveAnimate")]["inputs"]["motion"]
    blended = add(graph, "PersonaLiveBlendMotions", motion=source, other=source, head=1.0, face=0.5)
    save = add(graph, "PersonaLiveSaveMotion", motion=[blended, 0], filename_prefix="motions/one")
    change(graph, "PersonaLiveAnimate", motion=[save, 0])
    return graph


def _ditto(name: str) -> Api:
    graph = test_ditto.small(name)
    for node in graph.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "photograph.png"
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = "walking.mp4"
    return graph


def _longcat_lora() -> Api:
    graph = test_longcat.small()
    between(
        graph,
        "LongCatSampler",
        "longcat",
        "LongCatApplyLora",
        "longcat",
        lora="none",
        strength=1.0,
        download=False,
    )
    return graph


def _services(url: str) -> Api:
    graph: Api = {"1": {"class_type": "AvatarVoice", "inputs": {"url": url, "model": "scripted"}}}
    ears = add(graph, "AvatarEars", url=url, model="scripted")
    mind = add(graph, "AvatarLanguageModel", url=url, model="scripted", system_prompt="")
    said = add(graph, "AvatarSay", voice=["1", 0], text="One, two. Three!")
    heard = add(graph, "AvatarListen", ears=[ears, 0], audio=[said, 0])
    told = add(graph, "AvatarAnswer", mind=[mind, 0], question=[heard, 0], history="")
    add(graph, "PreviewAny", source=[told, 1])
    return graph


def _conversation(url: str) -> Api:
    graph = small(0.0)
    put_conversation(graph, url, filler=[only(graph, "LoadAudio"), 0], max_seconds=1.0, id=ID + "two")
    return graph


def _realtime(url: str) -> Api:
    graph = small(0.0)
    encoder = graph.pop(only(graph, "LiveAvatarEncodeSpeech"))["inputs"]["audio_encoder"]
    del graph[only(graph, "LoadAudio")]
    inputs = {"model": "scripted", "instructions": "", "max_seconds": 1.0, "id": ID + "three"}
    address = url.replace("http", "ws")
    put(
        graph,
        "LiveAvatarSampler",
        "speech",
        "AvatarConversationRealtime",
        url=address,
        audio_encoder=encoder,
        **inputs,
    )
    return graph


def _batch() -> Api:
    graph = small(SECONDS)
    usual = {"file": "rows.json", "folder": "batch", "skip_finished": False, "prompt": "A person."}
    rows = add(graph, "AvatarBatch", steps=1, guidance=1.0, **usual)
    change(graph, "LiveAvatarReferenceImage", image=[rows, 0])
    change(graph, "LiveAvatarEncodeSpeech", audio=[rows, 1])
    change(graph, "LiveAvatarSampler", seed=[rows, 4])
    change(graph, "AvatarStreamToVideo", filename_prefix=[rows, 5])
    for old in ("LoadAudio", "LoadImage"):
        del graph[only(graph, old)]
    return graph
