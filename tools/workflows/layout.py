"""Shipped workflows in the two forms that ComfyUI reads: for the API, and laid out for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graphs import Graph, Link, Node, Workflow
from .notes import models_of

COLUMN, GAP, TITLE = 400, 40, 30
NOTE_WIDTH, NOTE_HEIGHT = 440, 560
GREEN, YELLOW = ("#232", "#353"), ("#432", "#653")
GROUP_COLOURS = ("#3f789e", "#88A", "#8A8", "#b58b2a", "#A88")
CORNER, SEEN = (80, 110), (1480, 860)
"""Pixels of a page that its bars take at the left and at the top, and what they leave for the graph."""
READABLE = 0.62
"""Pages leave texts out where they are smaller; a workflow that is too wide for that is scrolled."""
PACKS = {"custom_nodes.ComfyUI-LiveAvatar": "comfyui-liveavatar"}
"""Registry names by the host's module names; what comes from elsewhere is a core node or VideoHelperSuite's."""


def api_format(graph: Graph, titles: Mapping[str, str]) -> dict[str, Any]:
    """The graph as ComfyUI's API takes it."""
    ids = {name: str(number) for number, name in enumerate(graph, 1)}

    def value(item: Any) -> Any:
        return [ids[item.name], item.slot] if isinstance(item, Link) else item

    return {
        ids[name]: {
            "class_type": node.type,
            "inputs": {key: value(item) for key, item in node.inputs.items()},
            "_meta": {"title": node.title or titles[node.type]},
        }
        for name, node in graph.items()
    }


def heights(slots: int, widgets: int, extra: int) -> tuple[int, int]:
    """Height of a node on the canvas, and what it needs in both renderers: Nodes 2.0 has taller widgets and badges."""
    return 14 + 20 * slots + 24 * widgets + extra, 42 + 20 * slots + 28 * widgets + extra


def page_format(workflow: Workflow, info: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """The workflow as ComfyUI's page saves it.

    ``info`` is the host's /object_info, ``versions`` has the version of each pack by its name in the registry.
    """
    graph = workflow.make()
    ids = {name: number for number, name in enumerate(graph, 1)}
    links: list[list[Any]] = []
    nodes: list[dict[str, Any]] = []
    bottoms: dict[int, int] = {}
    for order, (name, node) in enumerate(graph.items()):
        about = info[node.type]
        inputs, widgets = _slots(node, name, graph, ids, info, links)
        values: Any = list(widgets.values())
        if node.type == "VHS_VideoCombine":  # keeps its widgets by name, those of the chosen format included
            values = {key: item for key, item in node.inputs.items() if not isinstance(item, Link)}
        height, needed = heights(max(len(inputs), len(about["output"])), len(values), node.extra_height)
        top = bottoms.get(node.column, 0)
        bottoms[node.column] = top + needed + GAP + TITLE
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
                **({"title": node.title, "color": GREEN[0], "bgcolor": GREEN[1]} if node.title else {}),
                "properties": _properties(node.type, about, values, versions),
                "widgets_values": values,
            }
        )
    for number, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(number)
    nodes.append(_note(workflow.note, len(nodes) + 1))
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": _groups(workflow.groups, bottoms),
        "config": {},
        "extra": _extra(workflow, ids, bottoms),
        "version": 0.4,
    }


def _slots(
    node: Node,
    name: str,
    graph: Graph,
    ids: Mapping[str, int],
    info: Mapping[str, Any],
    links: list[list[Any]],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A node's sockets and its widgets' values by name; what is connected is added to ``links``."""
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
    return inputs, widgets


def _properties(
    type_: str, about: Mapping[str, Any], values: Any, versions: Mapping[str, str]
) -> dict[str, Any]:
    """What pages read about a node: its pack, and where its models are."""
    module = about["python_module"]
    pack = PACKS.get(module) or (
        "comfyui-videohelpersuite" if module.startswith("custom_nodes") else "comfy-core"
    )
    found = {"cnr_id": pack, "ver": versions[pack], "Node name for S&R": type_}
    if models := models_of(values):
        found["models"] = models
    return found


def _note(text: str, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [-NOTE_WIDTH - 2 * GAP, 0],
        "size": [NOTE_WIDTH, NOTE_HEIGHT],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [text],
        "color": YELLOW[0],
        "bgcolor": YELLOW[1],
    }


def _groups(groups: Mapping[str, tuple[int, int]], bottoms: Mapping[int, int]) -> list[dict[str, Any]]:
    """Boxes with a title around columns of nodes."""
    lowest = max(bottoms.values())
    above = TITLE + 2 * GAP
    return [
        {
            "id": number,
            "title": title,
            "bounding": [
                first * COLUMN - GAP // 2,
                -above,
                (last - first + 1) * COLUMN - GAP,
                above + lowest,
            ],
            "color": GROUP_COLOURS[number % len(GROUP_COLOURS)],
            "font_size": 24,
            "flags": {},
        }
        for number, (title, (first, last)) in enumerate(groups.items(), 1)
    ]


def _extra(workflow: Workflow, ids: Mapping[str, int], bottoms: Mapping[int, int]) -> dict[str, Any]:
    """The part of the canvas that is seen first, and what an app mode shows."""
    left, above = NOTE_WIDTH + 2 * GAP, TITLE + 2 * GAP
    width, height = left + (max(bottoms) + 1) * COLUMN, above + max(*bottoms.values(), NOTE_HEIGHT)
    scale = max(READABLE, min(1.0, SEEN[0] / width, SEEN[1] / height))
    offset = [round(CORNER[0] / scale) + left, round(CORNER[1] / scale) + above]
    extra: dict[str, Any] = {"ds": {"scale": round(scale, 3), "offset": offset}}
    if workflow.app:
        widgets, results = workflow.app
        extra["linearMode"] = True
        extra["linearData"] = {
            "inputs": [[ids[node], widget] for node, widget in widgets],
            "outputs": [ids[node] for node in results],
        }
    return extra
