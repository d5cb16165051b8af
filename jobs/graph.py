"""Jobs put into workflows in API format, by the classes of their nodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from .job import FIELDS, Job

Graph = dict[str, dict[str, Any]]


class Place(NamedTuple):
    """Where a workflow takes a value: the classes of nodes and their input; the title decides among several."""

    classes: tuple[str, ...]
    input: str
    title: str
    words: str


PROMPT = "CLIPTextEncode"
PLACES = {
    "image": Place(("LoadImage",), "image", "Portrait", "no Load Image for the portrait"),
    "audio": Place(
        ("LoadAudio", "LiveAvatarLoadSpeechFile"), "audio", "Speech", "no Load Audio for the speech"
    ),
    "prompt": Place((PROMPT,), "text", "What the person does", "no prompt"),
}
SPOKEN = "What the person says"
"""Title of the node whose ``text`` (and ``voice``) a voice says."""
WIDGETS = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "guidance": ("guidance", "guidance_scale", "text_guidance", "audio_guidance", "cfg"),
    "seconds": ("max_seconds",),
}
"""Settings, and what inputs of nodes they are."""
WRITER = "AvatarStreamToVideo"
"""The node whose ``fps`` is that of the file; elsewhere it is that of a model, of its source, or of mere frames."""
PREFIX = "filename_prefix"
RUN = "_run"
"""An input that nodes do not know: hosts answer a run that is equal in all inputs with the file of an earlier one, even
where that file is gone."""


def fill(
    graph: Mapping[str, Any], job: Job, prefix: str, run: str = "", called: Mapping[str, str] | None = None
) -> Graph:
    """A copy of a workflow in API format that makes ``job`` and saves it below ``prefix`` in the output folder.

    Another ``run`` saves another file, though nothing else differs. ``called`` has the names of the job's fields that
    messages use where they are others.
    ``image`` and ``audio`` of the job are names as the host's loaders know them; its seed is a number by now.

    Raises:
        ValueError: the workflow has no place for something that the job asks for; in one sentence.
    """
    filled: Graph = copy.deepcopy(check_graph(graph))
    called = {name: name for name in FIELDS} | dict(called or {})
    for name, place in PLACES.items():
        if (value := getattr(job, name)) is not None:
            _find(filled, name, place, called[name])["inputs"][place.input] = value
    if job.text is not None:
        _say(filled, job)
    for name, widgets in WIDGETS.items():
        if (value := getattr(job, name)) is not None and not _set(filled, widgets, value) and name != "seed":
            raise _no_place(called[name])
    if job.guidance is not None and job.guidance > 1:
        _add_negative_prompts(filled, called["guidance"])
    if job.fps is not None:
        outputs = [node["inputs"] for node in filled.values() if node["class_type"] == WRITER]
        if not outputs:
            raise _no_place(called["fps"])
        for inputs in outputs:
            inputs["fps"] = job.fps
    writers = [node["inputs"] for node in filled.values() if PREFIX in node["inputs"]]
    if not writers:
        raise ValueError("Add Avatar Stream to Video to the workflow: it saves nothing.")
    for inputs in writers:
        inputs.update({PREFIX: prefix, RUN: run})
    return filled


def _no_place(name: str) -> ValueError:
    return ValueError(f"Leave {name} out, or take another workflow: no node of this one has it.")


def check_graph(graph: Any) -> Graph:
    """The same workflow; ValueError where it is none in API format."""
    nodes = graph.values() if isinstance(graph, Mapping) else ()
    if not nodes or not all(
        isinstance(node, Mapping)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), Mapping)
        for node in nodes
    ):
        raise ValueError("Export the workflow with 'Export (API)': this one is in another format.")
    return graph


def _find(graph: Graph, name: str, place: Place, called: str) -> dict[str, Any]:
    fitting = [
        node
        for number, node in graph.items()
        if node["class_type"] in place.classes
        and isinstance(node["inputs"].get(place.input), str)
        and (name != "audio" or _is_speech(graph, number))
    ]
    chosen = [node for node in fitting if _title(node) == place.title] or fitting
    if not chosen:
        raise ValueError(f"Take another workflow: this one has {place.words}.")
    if len(chosen) > 1:
        raise ValueError(f"Call one node of the workflow '{place.title}': {len(chosen)} could take {called}.")
    return chosen[0]


def _is_speech(graph: Graph, number: str) -> bool:
    """Whether a sound goes where speech goes, and not to a voice that takes after it."""
    return any(
        isinstance(value, list) and value[:1] == [number] and name.startswith("audio")
        for node in graph.values()
        for name, value in node["inputs"].items()
    )


def _say(graph: Graph, job: Job) -> None:
    voices = [
        node
        for node in graph.values()
        if _title(node) == SPOKEN and isinstance(node["inputs"].get("text"), str)
    ]
    if len(voices) != 1:
        raise ValueError(
            f"Give audio, or take a workflow with a voice whose node is called '{SPOKEN}': text needs one."
        )
    voices[0]["inputs"]["text"] = job.text
    if job.voice is not None:
        chosen = voices[0]["inputs"]
        while isinstance(link := chosen.get("voice"), list) and link[0] in graph:
            chosen = graph[link[0]]["inputs"]
        if not isinstance(chosen.get("voice"), str):
            raise ValueError("Leave voice out: the workflow's voice has no choice of it.")
        chosen["voice"] = job.voice


def _set(graph: Graph, inputs: tuple[str, ...], value: Any) -> int:
    """Set inputs of these names wherever a node has them as a widget; returns how many there were."""
    count = 0
    for node in graph.values():
        for name in inputs:
            if name in node["inputs"] and not isinstance(node["inputs"][name], list):
                node["inputs"][name] = value
                count += 1
    return count


def _add_negative_prompts(graph: Graph, called: str) -> None:
    """Guidance compares with a negative prompt: what has none connected gets an empty one."""
    for node in list(graph.values()):
        inputs = node["inputs"]
        guided = "positive" in inputs and any(name in inputs for name in WIDGETS["guidance"])
        if guided and "negative" not in inputs:
            inputs["negative"] = [_empty_prompt(graph, inputs["positive"], called), 0]


def _empty_prompt(graph: Graph, link: Any, called: str) -> str:
    """The number of a new node: the prompt behind a link, without its words."""
    for _ in range(len(graph)):
        node = graph.get(link[0]) if isinstance(link, list) else None
        if node is None:
            break
        if node["class_type"] == PROMPT:
            number = f"{link[0]} without words"
            graph[number] = {"class_type": PROMPT, "inputs": {**node["inputs"], "text": ""}}
            return number
        link = node["inputs"].get("positive")
    raise ValueError(
        f"Connect a negative prompt in the workflow, be it an empty one: {called} compares with it."
    )


def _title(node: Mapping[str, Any]) -> str | None:
    return (node.get("_meta") or {}).get("title")
