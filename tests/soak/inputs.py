"""Attacks on every input of every node: values that are typed in, and odd objects behind links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.host.workflows import add, every

from .attack import Attack, alone, spoiled
from .odd_pack.objects import odd_objects
from .stage import Stage

NAN = float("nan")
TYPED: dict[str, list[Any]] = {
    "INT": [None, "", "x", "1e3", NAN, float("inf"), -1, -(10**30), 10**30, 1.5, True, [], {}, {"a": 1}],
    "FLOAT": [
        None,
        "",
        "x",
        NAN,
        float("inf"),
        -float("inf"),
        -1.0,
        1e300,
        -(10**30),
        True,
        [],
        {},
        {"a": 1},
    ],
    "BOOLEAN": [None, "", "maybe", 7, NAN, [], {}],
    "STRING": [
        *(
            None,
            "",
            "   ",
            7,
            NAN,
            [],
            {},
            "a\0b",
            "\x1b[2J",
            "\x7f",
            "a\nb",
            "\ud800",
            "ünïçødé 声",
            "'; DROP TABLE--",
        ),
        *(
            "/etc/passwd",
            "../../../etc/passwd",
            "<img src=x onerror=alert(1)>",
            "%date:yyyy%%a.b%{}{0}%s",
            "word " * 50_000,
        ),
        *("file:///etc/passwd", "http://", "http://[::1", "-1,-2", "1e400", "9" * 5000),
    ],
    "COMBO": [
        None,
        "",
        " ",
        "nonsense",
        0,
        NAN,
        [],
        {},
        "/etc/passwd",
        "../..",
        "a\0b",
        "\ud800",
        "x" * 10_000,
    ],
}


def typed(stage: Stage) -> Iterator[Attack]:
    """Every widget of every node with every value that does not belong there."""
    for name, type_, workflow, node in _inputs(stage, widgets=True):
        for value in TYPED.get(type_, ()):
            graph = spoiled(alone(stage.workflows[workflow], node), node, name, value)
            yield Attack("typed", f"{_of(graph, node)}.{name} = {value!r:.40}", graph)


def linked(stage: Stage) -> Iterator[Attack]:
    """Every input of every node with every odd object of its type behind a link."""
    for name, type_, workflow, node in _inputs(stage, widgets=False):
        for what in () if type_ in TYPED else odd_objects(type_):
            graph = alone(stage.workflows[workflow], node)
            odd = add(graph, "SoakOdd", type=type_, what=what)
            graph[node]["inputs"][name] = [odd, 0]
            yield Attack("linked", f"{_of(graph, node)}.{name} <- {type_} {what}", graph)


def missing(stage: Stage) -> Iterator[Attack]:
    """Every node without each of its inputs."""
    for name, _, workflow, node in _inputs(stage, widgets=False):
        graph = alone(stage.workflows[workflow], node)
        if graph[node]["inputs"].pop(name, None) is not None:
            yield Attack("missing", f"{_of(graph, node)} without {name}", graph)


def _inputs(stage: Stage, widgets: bool) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, workflow and node id of every input of the pack's nodes."""
    for type_, described in sorted(stage.host.pack_nodes().items()):
        workflow = stage.workflow_with(type_)
        if workflow is None:
            continue
        node = every(stage.workflows[workflow], type_)[0]
        for group in ("required", "optional"):
            for name, (kind, *_) in described["input"].get(group, {}).items():
                kind = "COMBO" if isinstance(kind, list) else kind
                if not widgets or kind in TYPED:
                    yield name, kind, workflow, node


def _of(graph: dict[str, Any], node: str) -> str:
    return graph[node]["class_type"]
