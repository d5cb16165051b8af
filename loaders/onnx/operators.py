"""What the operators of ONNX graphs compute, in PyTorch: numbers, shapes and sums; `spatial` has pictures and sounds.

Whole numbers, of which shapes are made, stay on the CPU, so that nothing waits for a GPU to know a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import Node
from .wire import UnsupportedGraph

Operator = Callable[..., Any]
"""Takes a node and the values of its inputs (None for one that is left out); gives a value, or a tuple of them."""
MOST_NUMBERS = 1 << 28
"""Numbers of one value (1 GB in float32). The speech network's largest has 5 million for a window."""
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


class SizeError(ValueError):
    """A value would be larger than any that such networks have."""


def fits(shape: Sequence[int]) -> None:
    """SizeError for a shape of too many numbers; to be asked before memory is taken."""
    if math.prod(shape) > MOST_NUMBERS:
        raise SizeError(f"asks for a value of the size {list(shape)}")


def together(*values: Tensor) -> tuple[Tensor, ...]:
    """Values on one device: the GPU's where one of them is there. Single numbers may stay on the CPU."""
    places = [value.device for value in values if value.device.type != "cpu"]
    return tuple(value.to(places[0]) if value.dim() else value for value in values) if places else values


def numbers(value: Tensor) -> list[int]:
    """Whole numbers of a value that says something about a shape."""
    return [int(number) for number in value.flatten().tolist()]


def _plain(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, x: function(x)


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(node: Node, a: Tensor, b: Tensor) -> Tensor:
        fits(torch.broadcast_shapes(a.shape, b.shape))
        return function(*together(a, b))

    return operator


def _all(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    two = _both(function)

    def operator(node: Node, *values: Tensor) -> Tensor:
        found = values[0]
        for value in values[1:]:
            found = two(node, found, value)
        return found

    return operator


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b).to(a.dtype)


def _modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _both(torch.fmod if node.get("fmod") else torch.remainder)(node, a, b)


def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    fits(torch.broadcast_shapes(condition.shape, a.shape, b.shape))
    return torch.where(*together(condition, a, b))


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    for limit, bound in ((low, torch.maximum), (high, torch.minimum)):
        x = x if limit is None else _both(bound)(node, x, limit)
    return x


def _cast(node: Node, x: Tensor) -> Tensor:
    kind = DTYPES.get(node.get("to"))
    if kind is None:
        raise UnsupportedGraph(f"it makes numbers of the kind {node.get('to')}")
    whole = not kind.is_floating_point and kind != torch.bool
    return (x.cpu() if whole else x).to(kind)


def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate") or "none")


def _leaky(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


def _sloped(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    fits(torch.broadcast_shapes(x.shape, slope.shape))
    return torch.where(x < 0, x * slope, x)


def _constant(node: Node) -> Tensor:
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            kind = torch.int64 if name.startswith("value_int") else torch.float32
            return torch.tensor(node.get(name), dtype=kind)
    if not isinstance(node.get("value"), Tensor):
        raise UnsupportedGraph("a constant is no tensor")
    return node.get("value")


def _filled(node: Node, shape: Tensor) -> Tensor:
    size = numbers(shape)
    fits(size)
    value = node.get("value", torch.zeros(1))
    return torch.full(size, value.item(), dtype=value.dtype)


def _range(node: Node, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    first, last, each = start.item(), end.item(), step.item()
    fits([math.ceil(abs(last - first) / abs(each))])
    return torch.arange(first, last, each, dtype=start.dtype)


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[node.get("start", 0) : node.get("end", x.dim())], dtype=torch.int64)


def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    size = numbers(shape)
    if not node.get("allowzero", 0):
        size = [x.shape[i] if side == 0 else side for i, side in enumerate(size)]
    return x.reshape(size)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _axes(node: Node, given: Tensor | None) -> list[int]:
    """Axes that a node names in one of the two ways that there are."""
    return node.get("axes", []) if given is None else numbers(given)


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = _axes(node, axes)
    return x.squeeze(tuple(named)) if named else x.squeeze()


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = _axes(node, axes)
    for axis in sorted(axis % (x.dim() + len(named)) for axis in named):
        x = x.unsqueeze(axis)
    return x


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or tuple(reversed(range(x.dim()))))


def _concat(node: Node, *values: Tensor) -> Tensor:
    fits([sum(value.numel() for value in values)])
    return torch.cat(together(*values), node.get("axis"))


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, named = node.get("axis", 0), node.get("split") if sizes is None else numbers(sizes)
    return x.split(named, axis) if named else x.chunk(len(node.outputs), axis)


def _slice(
    node: Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = numbers(starts), numbers(ends)
    along = list(range(len(first))) if axes is None else numbers(axes)
    each = [1] * len(first) if steps is None else numbers(steps)
    for axis, start, end, step in zip(along, first, last, each, strict=True):
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0:
            index = [slice(None)] * x.dim()
            index[axis] = slice(places.start, max(places.start, places.stop), step)
            x = x[tuple(index)]
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64).to(x.device))
    return x


def _gather(node: Node, x: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0) % max(1, x.dim())
    size = x.shape[axis]
    if places.numel() and not -size <= int(places.min()) <= int(places.max()) < size:
        raise ValueError(f"looks for places of {size} that are not there")
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    fits(shape)
    index = places.long().flatten() % max(1, size)
    return x.index_select(axis, index.to(x.device)).reshape(shape)


def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    size = torch.broadcast_shapes(x.shape, numbers(shape))
    fits(size)
    return x.expand(size)


def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    times = numbers(repeats)
    fits([x.numel(), *times])
    return x.repeat(times)


def _pad(
    node: Node, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    mode, named = node.get("mode", "constant"), numbers(pads)
    if mode != "constant" or axes is not None:
        raise UnsupportedGraph(f"it pads in the mode {mode:.20}")
    half = len(named) // 2
    fits([side + sum(named[i::half]) for i, side in enumerate(x.shape)])
    both = [side for i in reversed(range(half)) for side in (named[i], named[half + i])]
    return F.pad(x, both, value=0 if value is None else value.item())


def _triangle(node: Node, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    corner = torch.triu if node.get("upper", 1) else torch.tril
    return corner(x, 0 if diagonal is None else int(diagonal))


def _running_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    if node.get("exclusive") or node.get("reverse"):
        raise UnsupportedGraph("it has a running sum of another kind")
    return x.cumsum(int(axis), dtype=x.dtype)


def _reduced(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Operator:
    def operator(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        named = tuple(_axes(node, axes))
        if not named and node.get("noop_with_empty_axes"):
            return x
        return function(x, named or tuple(range(x.dim())), bool(node.get("keepdims", 1)))

    return operator


def _soft(function: Callable[[Tensor, int], Tensor]) -> Operator:
    def operator(node: Node, x: Tensor) -> Tensor:
        return function(x, node.get("axis", -1))

    return operator


def _soft_flat(function: Callable[[Tensor, int], Tensor]) -> Operator:
    def operator(node: Node, x: Tensor) -> Tensor:
        axis = node.get("axis", 1) % max(1, x.dim())
        return function(x.reshape(math.prod(x.shape[:axis]), -1), -1).reshape(x.shape)

    return operator


def _product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if min(a.dim(), b.dim()) > 1:
        fits([*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]])
    return torch.matmul(*together(a, b))


def _affine(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = a.T if node.get("transA") else a, b.T if node.get("transB") else b
    product = _product(node, a, b) * node.get("alpha", 1.0)
    return product if c is None else product + c * node.get("beta", 1.0)


OPERATORS: dict[str, Operator] = {
    **{name: _plain(getattr(torch, name.lower())) for name in ("Abs", "Neg", "Exp", "Log", "Sqrt", "Sign")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Erf", "Tanh", "Sigmoid", "Floor", "Ceil")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Sin", "Cos", "Reciprocal", "Relu", "IsNaN")},
    "Not": _plain(torch.logical_not),
    "Softplus": _plain(F.softplus),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "Dropout": lambda node, x, *_: x,
    "Add": _both(torch.add),
    "Sub": _both(torch.sub),
    "Mul": _both(torch.mul),
    "Div": _both(_divide),
    "Pow": _both(_power),
    "Equal": _both(torch.eq),
    "Greater": _both(torch.gt),
    "GreaterOrEqual": _both(torch.ge),
    "Less": _both(torch.lt),
    "LessOrEqual": _both(torch.le),
    "And": _both(torch.logical_and),
    "Or": _both(torch.logical_or),
    "Min": _all(torch.minimum),
    "Max": _all(torch.maximum),
    "Sum": _all(torch.add),
    "Mod": _modulo,
    "Where": _where,
    "Clip": _clip,
    "Cast": _cast,
    "Gelu": _gelu,
    "LeakyRelu": _leaky,
    "PRelu": _sloped,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Shape": _shape,
    "Size": lambda node, x: torch.tensor(x.numel()),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Trilu": _triangle,
    "CumSum": _running_sum,
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "Softmax": _soft(torch.softmax),
    "LogSoftmax": _soft(torch.log_softmax),
    "MatMul": _product,
    "Gemm": _affine,
}
"""By their names in the format, from version 11 of the operators on."""
BEFORE_13: dict[str, Operator] = {
    "Softmax": _soft_flat(torch.softmax),
    "LogSoftmax": _soft_flat(torch.log_softmax),
}
"""Those that meant something else before version 13."""
