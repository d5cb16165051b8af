"""The subgraph blueprint: a whole talking portrait as one node, in pages that offer blueprints of packs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from .graphs import Graph, Workflow, from_checkpoint
from .layout import COLUMN, GAP, page_format

NAME = "Talking portrait"
DESCRIPTION = (
    "A portrait says a speech: LiveAvatar's checkpoint, prompt, reference image, speech and sampler in one node. "
    "Connect Avatar Stream to Video behind it."
)
ALIASES = ["talking head", "lip sync", "speech to video", "avatar"]
INPUTS = {"image": ("reference", "image", "IMAGE"), "audio": ("speech", "audio", "AUDIO")}
"""What comes from outside: name, the node and the input that take it, and its type."""
OUTPUT = ("sample", 0, "stream", "AVATAR_STREAM")
WIDGETS = (
    ("load", "checkpoint"),
    ("load", "lora"),
    ("prompt", "text"),
    ("reference", "width"),
    ("reference", "height"),
    ("sample", "seed"),
    ("sample", "max_seconds"),
    ("sample", "performance"),
)
"""The widgets of inner nodes that the node shows."""
OUTSIDE, RESULT = -10, -20


def inside() -> Graph:
    """The nodes of the blueprint: those of a talking portrait, whose picture and sound come from outside."""
    graph = dict(from_checkpoint())
    del graph["image"], graph["audio"]
    for node, name, _ in INPUTS.values():
        del graph[node].inputs[name]
    return graph


def blueprint(info: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """The file that a page reads. ``info`` is the host's /object_info."""
    graph = inside()
    ids = {name: number for number, name in enumerate(graph, 1)}
    page = page_format(Workflow(lambda: graph, "", "", ""), info, versions)
    nodes = [node for node in page["nodes"] if node["type"] != "MarkdownNote"]
    links = [
        dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
        for link in page["links"]
    ]
    inputs = []
    for slot, (name, (node, key, type_)) in enumerate(INPUTS.items()):
        number = len(links) + 1
        sockets = nodes[ids[node] - 1]["inputs"]
        target = next(place for place, socket in enumerate(sockets) if socket["name"] == key)
        sockets[target]["link"] = number
        links.append(_link(number, OUTSIDE, slot, ids[node], target, type_))
        inputs.append(_socket(name, type_, number))
    source, slot, name, type_ = OUTPUT
    links.append(_link(len(links) + 1, ids[source], slot, RESULT, 0, type_))
    nodes[ids[source] - 1]["outputs"][slot]["links"] = [len(links)]
    outputs = [_socket(name, type_, len(links))]
    identity = _identity("subgraph")
    right = (max(node.column for node in graph.values()) + 1) * COLUMN
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [
            {
                "id": 1,
                "type": identity,
                "pos": [0, 0],
                "size": [COLUMN - GAP * 2, 360],
                "flags": {},
                "order": 0,
                "mode": 0,
                "inputs": [
                    {"name": socket["name"], "type": socket["type"], "link": None} for socket in inputs
                ],
                "outputs": [{"name": name, "type": type_, "links": []}],
                "title": NAME,
                "properties": {"proxyWidgets": [[str(ids[node]), widget] for node, widget in WIDGETS]},
                "widgets_values": [],
            }
        ],
        "links": [],
        "version": 0.4,
        "definitions": {
            "subgraphs": [
                {
                    "id": identity,
                    "version": 1,
                    "state": {
                        "lastGroupId": 0,
                        "lastNodeId": len(nodes),
                        "lastLinkId": len(links),
                        "lastRerouteId": 0,
                    },
                    "revision": 0,
                    "config": {},
                    "name": NAME,
                    "inputNode": {"id": OUTSIDE, "bounding": [-200, 0, 120, 80]},
                    "outputNode": {"id": RESULT, "bounding": [right, 0, 120, 60]},
                    "inputs": inputs,
                    "outputs": outputs,
                    "widgets": [],
                    "nodes": nodes,
                    "groups": [],
                    "links": links,
                    "extra": {},
                    "category": "LiveAvatar",
                    "description": DESCRIPTION,
                }
            ]
        },
        "extra": {"BlueprintDescription": DESCRIPTION, "BlueprintSearchAliases": ALIASES},
    }


def _link(
    number: int, origin: int, origin_slot: int, target: int, target_slot: int, type_: str
) -> dict[str, Any]:
    return {
        "id": number,
        "origin_id": origin,
        "origin_slot": origin_slot,
        "target_id": target,
        "target_slot": target_slot,
        "type": type_,
    }


def _socket(name: str, type_: str, link: int) -> dict[str, Any]:
    return {"id": _identity(name), "name": name, "type": type_, "linkIds": [link], "pos": [0, 0]}


def _identity(name: str) -> str:
    """An id that is the same whenever the file is written."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-liveavatar/{NAME}/{name}"))
