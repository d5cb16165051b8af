"""An ONNX file as nodes and constants. The package ``onnx`` is not needed, and nothing in the file is run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...media.room import check_room
from ..files import check_file
from .wire import (
    MOST_LISTED,
    DamagedError,
    UnsupportedGraph,
    Value,
    Wire,
    content,
    floats,
    text,
    whole,
    wholes,
)

OLDEST, NEWEST = 11, 22
"""Versions of the operators that are known here."""
KINDS = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
}
"""Kinds of numbers, by their names in the format."""
MOST_DIMENSIONS = 8
MOST_SIDE = 2**31
STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        inputs: names of values; empty for one that is left out.
        attributes: numbers, texts, tensors and lists of numbers.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


@dataclass
class OnnxModel:
    """A graph: nodes in the order in which they can be computed, and the constants that they read."""

    opset: int
    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Tensor]


def read_model(path: Path) -> OnnxModel:
    """The graph of a file.

    Raises:
        FileNotFoundError: there is none.
        UnsupportedGraph: it has what is not known here.
        ValueError: it is damaged; the message names it.
        MemoryError: it is larger than the free memory.
    """
    check_file(path)
    check_room(path.stat().st_size, f"the numbers of {path.name}", "Close other programs")
    data = memoryview(np.memmap(path, np.uint8, "r"))
    try:
        return _Reader().model(data)
    except DamagedError as error:
        raise ValueError(f"Download {path} again: {error}.") from error


class _Reader:
    """Reads one file, message by message."""

    def __init__(self) -> None:
        self._wire = Wire()

    def model(self, data: memoryview) -> OnnxModel:
        graph, opset = None, 0
        for number, value in self._wire.fields(data):
            if number == 7:
                graph = value
            elif number == 8:
                opset = max(opset, self._opset(value))
        if graph is None:
            raise DamagedError("it holds no graph")
        if not OLDEST <= opset <= NEWEST:
            raise UnsupportedGraph(f"its operators are of version {opset}, not {OLDEST} to {NEWEST}")
        return self._graph(graph, opset)

    def _opset(self, message: Value) -> int:
        """The version of the standard operators; 0 where others are meant."""
        domain, version = "", 0
        for number, value in self._wire.fields(message):
            if number == 1:
                domain = text(value)
            elif number == 2:
                version = whole(value)
        return version if domain in STANDARD else 0

    def _graph(self, message: Value, opset: int) -> OnnxModel:
        model = OnnxModel(opset, [], [], [], {})
        for number, value in self._wire.fields(message):
            if number == 1:
                model.nodes.append(self._node(value))
            elif number == 5:
                name, tensor = self._tensor(value)
                model.constants[name] = tensor
            elif number == 11:
                model.inputs.append(self._name(value))
            elif number == 12:
                model.outputs.append(self._name(value))
            elif number == 15:
                raise UnsupportedGraph("it has sparse constants")
        # old exporters list constants among the inputs
        model.inputs = [name for name in model.inputs if name not in model.constants]
        self._check_order(model)
        return model

    @staticmethod
    def _check_order(model: OnnxModel) -> None:
        known = {"", *model.inputs, *model.constants}
        for node in model.nodes:
            absent = [name for name in node.inputs if name not in known]
            if absent:
                raise DamagedError(f"{node.operator} reads {absent[0]:.60}, which nothing before it gives")
            known.update(node.outputs)
        absent = [name for name in model.outputs if name not in known]
        if absent or not model.outputs:
            raise DamagedError(f"nothing gives its output {''.join(absent[:1]):.60}".rstrip())

    def _name(self, message: Value) -> str:
        """The name of an input or an output."""
        return next((text(value) for number, value in self._wire.fields(message) if number == 1), "")

    def _node(self, message: Value) -> Node:
        inputs, outputs, attributes = [], [], {}
        operator = domain = ""
        for number, value in self._wire.fields(message):
            if number == 1:
                inputs.append(text(value))
            elif number == 2:
                outputs.append(text(value))
            elif number == 4:
                operator = text(value)
            elif number == 5:
                name, found = self._attribute(value)
                attributes[name] = found
            elif number == 7:
                domain = text(value)
        if domain not in STANDARD:
            raise UnsupportedGraph(f"it has the operator {operator:.60} of {domain:.60}")
        return Node(operator, tuple(inputs), tuple(outputs), attributes)

    def _attribute(self, message: Value) -> tuple[str, Any]:
        """Name and value of a setting of a node."""
        name, found, many = "", None, []
        for number, value in self._wire.fields(message):
            if number == 1:
                name = text(value)
            elif number == 2:
                (found,) = floats(value) or [0.0]
            elif number == 3:
                found = whole(value)
            elif number == 4:
                found = text(value)
            elif number == 5:
                found = self._tensor(value)[1]
            elif number in (7, 8):
                many += floats(value) if number == 7 else wholes(value)
            elif number in (6, 9, 10, 11):
                raise UnsupportedGraph(f"its attribute {name:.60} holds a graph or a list of texts")
        return name, many if found is None else found

    def _tensor(self, message: Value) -> tuple[str, Tensor]:
        """Name and values of a constant."""
        name, kind, shape, raw, listed = "", 0, [], None, []
        for number, value in self._wire.fields(message):
            if number == 1:
                shape += wholes(value)
            elif number == 2:
                kind = whole(value)
            elif number in (4, 10):
                raw = content(value)  # packed numbers of the kind's own width
            elif number in (5, 7, 11):
                listed += wholes(value)
                if len(listed) > MOST_LISTED:
                    raise UnsupportedGraph(f"a constant lists more than {MOST_LISTED} numbers")
            elif number == 8:
                name = text(value)
            elif number == 9:
                raw = content(value)
            elif number in (13, 14) and value != 0:
                raise UnsupportedGraph("its constants lie in other files")
        if kind not in KINDS:
            raise UnsupportedGraph(f"a constant is of the kind {kind}")
        return name, _values(KINDS[kind], shape, raw, listed)


def _values(kind: np.dtype, shape: list[int], raw: memoryview | None, listed: list[int]) -> Tensor:
    """A constant's own copy of its values; its size is compared with the bytes that are there before one is made."""
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= side <= MOST_SIDE for side in shape):
        raise DamagedError(f"a constant has the size {shape[:MOST_DIMENSIONS]}")
    count = math.prod(shape)
    if raw is None and count and kind.kind != "f":
        values = np.array(listed, np.int64).astype(kind)
    else:
        raw = raw or memoryview(b"")
        values = np.frombuffer(raw[: len(raw) - len(raw) % kind.itemsize], kind)
    if len(values) != count:
        raise DamagedError(f"{len(values)} numbers are there for a constant of {count}")
    return torch.from_numpy(values.reshape(shape).copy())
