"""What the operators of ONNX graphs compute in pictures and sounds ``[B, C, ...]``: convolutions, pools and norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .model import Node
from .operators import Operator, fits
from .wire import UnsupportedGraph

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MEANS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _borders(node: Node, x: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
    """What is to be put around ``x``: in front of every dimension, then behind every one."""
    count, how = len(kernel), node.get("auto_pad", "NOTSET")
    if how == "NOTSET":
        borders = node.get("pads") or [0] * (2 * count)
    elif how == "VALID":
        borders = [0] * (2 * count)
    elif how in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max(0, (-(-side // stride) - 1) * stride + size - side)
            for side, size, stride in zip(x.shape[2:], kernel, strides, strict=True)
        ]
        less, more = [side // 2 for side in missing], [side - side // 2 for side in missing]
        borders = less + more if how == "SAME_UPPER" else more + less
    else:
        raise UnsupportedGraph(f"it pads in the way {how:.20}")
    if len(borders) != 2 * count or min(borders, default=0) < 0:
        raise ValueError(f"has the borders {borders[:6]}")
    return borders


def _padded(x: Tensor, borders: list[int], value: float) -> Tensor:
    count = len(borders) // 2
    fits([*x.shape[:2], *(side + borders[i] + borders[count + i] for i, side in enumerate(x.shape[2:]))])
    around = [side for i in reversed(range(count)) for side in (borders[i], borders[count + i])]
    return F.pad(x, around, value=value) if any(borders) else x


def _convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    count = weight.dim() - 2
    if count not in CONVOLUTIONS:
        raise UnsupportedGraph(f"it has convolutions of {count} dimensions")
    strides = node.get("strides") or [1] * count
    dilations = node.get("dilations") or [1] * count
    reach = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)]
    borders = _borders(node, x, reach, strides)
    symmetric = borders[:count] == borders[count:]
    padding = borders[:count] if symmetric else [0] * count
    fits([x.shape[0], weight.shape[0], *(side + 2 * p for side, p in zip(x.shape[2:], padding, strict=True))])
    x = x if symmetric else _padded(x, borders, 0)
    return CONVOLUTIONS[count](x, weight, bias, strides, padding, dilations, node.get("group", 1))


def _maximum(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    strides, dilations = (node.get(name) or [1] * len(kernel) for name in ("strides", "dilations"))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    x = _padded(x, _borders(node, x, reach, strides), -float("inf"))
    return MAXIMA[len(kernel)](x, kernel, strides, 0, dilations, bool(node.get("ceil_mode")))


def _mean(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    strides, dilations = (node.get(name) or [1] * len(kernel) for name in ("strides", "dilations"))
    borders = _borders(node, x, kernel, strides)
    half = borders[: len(kernel)]
    if half != borders[len(kernel) :] or max(dilations) > 1:
        raise UnsupportedGraph("it has means over uneven borders")
    counted = bool(node.get("count_include_pad"))
    return MEANS[len(kernel)](x, kernel, strides, half, bool(node.get("ceil_mode")), counted)


def _of_all(node: Node, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def _batch_norm(
    node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, shift, eps=node.get("epsilon", 1e-5))


def _instance_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=shift, eps=node.get("epsilon", 1e-5))


def _layer_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    if len(node.outputs) > 1:
        raise UnsupportedGraph("it asks for the mean of a layer norm")
    shape = x.shape[node.get("axis", -1) % x.dim() :]
    scale, shift = (None if part is None else part.expand(shape) for part in (scale, shift))
    return F.layer_norm(x, shape, scale, shift, node.get("epsilon", 1e-5))


SPATIAL: dict[str, Operator] = {
    "Conv": _convolution,
    "MaxPool": _maximum,
    "AveragePool": _mean,
    "GlobalAveragePool": _of_all,
    "GlobalMaxPool": lambda node, x: x.amax(tuple(range(2, x.dim())), keepdim=True),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
"""By their names in the format."""
