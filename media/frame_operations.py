"""Knows torch's operations that treat every frame by itself, so that a batch can go through them block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

BINARY = frozenset(
    [
        "add",
        "div",
        "maximum",
        "minimum",
        "mul",
        "pow",
        "rsub",
        "sub",
        "true_divide",
        "eq",
        "ge",
        "gt",
        "le",
        "lt",
        "ne",
        "__add__",
        "__floordiv__",
        "__mod__",
        "__mul__",
        "__pow__",
        "__sub__",
        "__truediv__",
        "__radd__",
        "__rdiv__",
        "__rfloordiv__",
        "__rmod__",
        "__rmul__",
        "__rpow__",
        "__rsub__",
        "__rtruediv__",
        "__ge__",
        "__gt__",
        "__le__",
        "__lt__",
    ]
)
"""Operations on two values, of which either may be the frames."""
UNARY = frozenset(
    [
        "abs",
        "clamp",
        "clip",
        "clone",
        "contiguous",
        "cpu",
        "detach",
        "double",
        "float",
        "half",
        "nan_to_num",
        "neg",
        "round",
        "sqrt",
        "to",
        "__abs__",
        "__neg__",
    ]
)
"""Operations on the frames, with settings."""
SETTINGS = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.memory_format)

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]


def _dims(args: Arguments, named: Named) -> list[int]:
    """Dimensions that are given one by one, or as sequences."""
    names = ("dim", "dims", "dim0", "dim1", "source", "destination")
    given = (*args, *(named[name] for name in names if name in named))
    return [dim for value in given for dim in (value if isinstance(value, (tuple, list)) else (value,))]


def _not_the_first(ndim: int, args: Arguments, named: Named) -> bool:
    dims = _dims(args, named)
    return bool(dims) and all(isinstance(dim, int) and dim % ndim for dim in dims)


def _first_stays(ndim: int, args: Arguments, named: Named) -> bool:
    dims = _dims(args, named)
    return bool(dims) and isinstance(dims[0], int) and dims[0] % ndim == 0


MOVING: dict[str, Callable[[int, Arguments, Named], bool]] = {
    "flip": _not_the_first,
    "interpolate": lambda ndim, args, named: ndim > 2,
    "movedim": _not_the_first,
    "moveaxis": _not_the_first,
    "narrow": lambda ndim, args, named: _not_the_first(ndim, args[:1], named),
    "pad": lambda ndim, args, named: len(args[0] if args else named["pad"]) < 2 * ndim,
    "permute": _first_stays,
    "select": lambda ndim, args, named: _not_the_first(ndim, args[:1], named),
    "swapaxes": _not_the_first,
    "transpose": _not_the_first,
    "unsqueeze": lambda ndim, args, named: _not_the_first(ndim + 1, args[:1], named),
}
"""Operations on the frames, with dimensions; each has a test of whether they leave the frames in front, and apart."""
METHODS = frozenset(name for name in BINARY | UNARY | MOVING.keys() if hasattr(torch.Tensor, name))
REFUSED = (
    "__matmul__",
    "__rmatmul__",
    "__invert__",
    "__and__",
    "__rand__",
    "__or__",
    "__ror__",
    "__xor__",
    "__rxor__",
)
"""Operators that are not for pictures; without methods for them, Python would say so in its own words."""


def treats_frames_alone(name: str, ndim: int, first: bool, others: Arguments, named: Named) -> bool:
    """Whether torch's function ``name`` may be applied to some frames of a batch [F, ...] at a time.

    ``ndim`` is the batch's number of dimensions, ``first`` whether it is the first argument, ``others`` and ``named``
    are the arguments beside it.
    """
    if "out" in named or not (first or name in BINARY):
        return False
    if name in MOVING:
        return MOVING[name](ndim, others, named)
    return name in BINARY | UNARY and all(_suits_every_frame(ndim, x) for x in (*others, *named.values()))


def _suits_every_frame(ndim: int, value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim < ndim or (value.ndim == ndim and value.shape[0] == 1)
    return isinstance(value, SETTINGS)


def split_index(index: tuple, ndim: int) -> tuple[Any, tuple]:
    """An index of several entries as a pair: the index of the frames, and that of each frame's own dimensions."""
    if not index:
        return slice(None), ()
    if index[0] is Ellipsis:
        if sum(entry is not None for entry in index[1:]) < ndim:
            return slice(None), index
        index = index[1:]
    return index[0], index[1:]


def leaves_frames_in_front(index: tuple) -> bool:
    """Whether an index of a frame's own dimensions has one list or tensor in it at most."""
    return sum(not isinstance(entry, (int, slice, type(None), type(Ellipsis))) for entry in index) <= 1


def frame_numbers(index: Any, frames: int) -> list[int]:
    """The frames that a list, an array or a tensor chooses: by their numbers, or by a truth value for each of them."""
    index = torch.as_tensor(index)
    if index.dtype == torch.bool and index.shape == (frames,):
        return index.nonzero()[:, 0].tolist()
    if index.ndim != 1 or index.dtype == torch.bool or index.is_floating_point():
        raise IndexError(
            f"Choose frames by a row of whole numbers; this is {index.dtype} of shape {list(index.shape)}."
        )
    return index.tolist()
