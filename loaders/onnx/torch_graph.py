"""An ONNX graph computed by PyTorch, operation by operation.

So the result is that of the file, whatever its authors have built into it, and neither onnxruntime nor the package
``onnx`` is needed. What hangs on constants alone is computed when the file is read; what hangs on the size of the
input, once for that size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...engines.gpu.transfer import send
from .model import Node, OnnxModel, read_model
from .operators import BEFORE_13, OPERATORS, Operator, fits
from .spatial import SPATIAL
from .wire import UnsupportedGraph

FAULTS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What PyTorch raises where an operation does not fit its inputs."""

MOST_MADE = 1 << 30
"""Numbers that all operations together may make of one input. The speech network's windows take a tenth of it."""


@dataclass(frozen=True)
class _Plan:
    """How inputs of one size are computed.

    Attributes:
        size: of the input.
        known: values that are the same for every input of this size.
        nodes: what is left to be done, with the values that are needed no more after it.
    """

    size: tuple[int, ...]
    known: dict[str, Tensor]
    nodes: list[tuple[Node, list[str]]]


class TorchGraph(nn.Module):
    """A graph with one input, where its weights are; every call stands alone.

    Args:
        path: the file.
        name: what people call this network, for messages.
        given: its input's name.

    Raises:
        UnsupportedGraph: it has what is not known here; nothing is wrong with it.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
        MemoryError: it is larger than the free memory.
    """

    def __init__(self, path: str | Path, name: str, given: str):
        super().__init__()
        self.path, self.name, self._given = Path(path), name, given
        model = read_model(self.path)
        self._operators = _operators(model)
        if model.inputs != [given]:
            raise self.other(f"takes {', '.join(model.inputs):.200} in place of {given}")
        self.outputs = model.outputs
        with torch.no_grad():
            self._nodes = self._folded(model)
        self._single: dict[str, Tensor] = {}  # numbers that shapes are made of, and those that stand alone
        self._places: dict[str, str] = {}  # names of parameters
        used = {name for node in self._nodes for name in node.inputs} | set(self.outputs)
        for number, (key, value) in enumerate(model.constants.items()):
            if key not in used:
                continue
            if value.dim() and value.is_floating_point():
                self._places[key] = f"constant_{number}"
                self.register_parameter(self._places[key], nn.Parameter(value, requires_grad=False))
            else:
                self._single[key] = value
        self._plan: _Plan | None = None
        self.eval()

    def other(self, fault: str) -> ValueError:
        """The error for a file that is another network."""
        return ValueError(f"Choose {self.name}: {self.path} {fault}.")

    @property
    def device(self) -> torch.device:
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @torch.no_grad()
    def forward(self, x: Tensor, *outputs: str) -> list[Tensor]:
        """The outputs of these names (none: all), where the weights are; ValueError where the graph does not take
        ``x``."""
        values = self._constants()
        values[self._given] = send(x.float(), self.device)
        if self._plan is None or self._plan.size != tuple(x.shape):
            self._plan = self._planned(values)
        plan = self._plan
        values |= plan.known
        for node, done in plan.nodes:
            self._compute(node, values)
            for name in done:
                values.pop(name, None)
        return [values[name] for name in outputs or self.outputs]

    def _apply(self, *args: Any, **kwargs: Any) -> TorchGraph:
        """Where the module is moved, what is known of a size would keep its memory."""
        self._plan = None
        return super()._apply(*args, **kwargs)

    def _constants(self) -> dict[str, Tensor]:
        return self._single | {key: getattr(self, place) for key, place in self._places.items()}

    def _compute(self, node: Node, values: dict[str, Tensor]) -> int:
        """Add what a node gives to the values; how many numbers that are."""
        try:
            found = self._operators[node.operator](
                node, *(values[name] if name else None for name in node.inputs)
            )
            each = found if isinstance(found, tuple) else (found,)
            for value in each:
                fits(value.shape)
        except (UnsupportedGraph, torch.OutOfMemoryError):
            raise
        except FAULTS as error:
            fault = str(error).strip().partition("\n")[0][:200]
            raise self.other(f"does not take this input ({node.operator}: {fault})") from error
        values.update((name, value) for name, value in zip(node.outputs, each, strict=False) if name)
        return sum(value.numel() for value in each)

    def _within(self, made: int) -> int:
        if made > MOST_MADE:
            raise self.other(f"makes more than {MOST_MADE} numbers of one input")
        return made

    def _folded(self, model: OnnxModel) -> list[Node]:
        """The nodes that hang on the input; what the others give is added to the constants."""
        left, made = [], 0
        for node in model.nodes:
            if all(name in model.constants for name in node.inputs if name):
                made = self._within(made + self._compute(node, model.constants))
            else:
                left.append(node)
        return left

    def _planned(self, values: dict[str, Tensor]) -> _Plan:
        """The plan of an input's size: it is computed once, in which every node is seen to hang on the size alone or
        not."""
        everything = dict(values)
        fixed = set(values) - {self._given}
        left, known, made = [], {}, 0
        for node in self._nodes:
            made = self._within(made + self._compute(node, everything))
            if node.operator in ("Shape", "Size") or all(name in fixed for name in node.inputs if name):
                fixed.update(node.outputs)
                known |= {name: everything[name] for name in node.outputs if name in everything}
            else:
                left.append(node)
        needed = {name for node in left for name in node.inputs} | set(self.outputs)
        here = {name: self._at_home(value) for name, value in known.items() if name in needed}
        return _Plan(tuple(values[self._given].shape), here, _with_ends(left, {*self.outputs, *here, *fixed}))

    def _at_home(self, value: Tensor) -> Tensor:
        """A known value where its readers are: whole numbers and those that stand alone on the CPU."""
        stays = not value.dim() or not (value.is_floating_point() or value.dtype == torch.bool)
        return value if stays else value.to(self.device)


def _operators(model: OnnxModel) -> dict[str, Operator]:
    """What computes the nodes; UnsupportedGraph where one is not known."""
    known = {**OPERATORS, **SPATIAL, **(BEFORE_13 if model.opset < 13 else {})}
    absent = sorted({node.operator for node in model.nodes} - known.keys())
    if absent:
        raise UnsupportedGraph(f"it has the operators {', '.join(absent)[:200]}")
    return known


def _with_ends(nodes: list[Node], kept: Iterable[str]) -> list[tuple[Node, list[str]]]:
    """Nodes, each with the names of values whose last reader it is."""
    seen, found = set(kept), []
    for node in reversed(nodes):
        last = {name for name in (*node.inputs, *node.outputs) if name} - seen
        seen |= last
        found.append((node, sorted(last)))
    return found[::-1]
