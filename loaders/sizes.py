"""Sizes that a config or a weight file claims, checked before a model is built with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .files import check_keys

logger = logging.getLogger(__name__)

MOST_LAYERS = 1000
LARGEST = 1 << 24
"""Upper limit of a width, or of any other single size."""


def check_whole(path: str | Path, values: Mapping[str, Any], lists: Collection[str] = ()) -> None:
    """ValueError, naming the file, unless every value is a whole number above 0 that a size can be.

    The values named in ``lists`` are lists of such numbers.
    """
    for name, value in values.items():
        numbers = value if name in lists and isinstance(value, (list, tuple)) else [value]
        if not numbers or any(type(number) is not int or not 0 < number <= LARGEST for number in numbers):
            raise ValueError(
                f"Download {path} again: its {name} is {value!r:.60}, but must be from 1 to {LARGEST:,}."
            )


def check_layers(path: str | Path, counts: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """ValueError, naming the file, when it claims more layers than there can be in the weights ``state``.

    A layer takes a weight at least; without this, a config of a few bytes would keep the host busy for minutes.
    """
    check_whole(path, counts)
    most = min(len(state), MOST_LAYERS)
    for name, count in counts.items():
        if count > most:
            raise ValueError(
                f"Download {path} again: its {name} is {count:,}, but its {len(state):,} weights are enough for "
                f"{most:,} at most."
            )


@contextmanager
def empty(path: str | Path, what: str) -> Iterator[None]:
    """Modules that are made inside take no memory; ValueError, naming the file, when its sizes do not work."""
    try:
        with torch.device("meta"):
            yield
    except Exception as error:  # each library has its own kinds
        raise ValueError(
            f"Download {path} again: it describes no {what} that can be built ({error})."
        ) from error


def fill(make: Callable[[], nn.Module], state: Mapping[str, Tensor], where: str, path: str | Path) -> Any:
    """The module of ``make`` with ``state`` in it, which takes memory only once the state is known to fit.

    ``where`` opens the sentence when it does not; ``path`` is the file that the sizes are from.
    """
    with empty(path, "model"):
        model = make()
    check_keys(state, model, where)
    model = make()
    model.load_state_dict(state, assign=True)
    return model


def only_known(state: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """The state without weights that the model has no place for, for files that need not fit exactly."""
    known = model.state_dict().keys()
    extra = sorted(state.keys() - known)
    if extra:
        logger.warning("%s: %d weights are not used (%s).", where, len(extra), ", ".join(extra[:3]))
    return {key: value for key, value in state.items() if key in known}


def shape_of(state: Mapping[str, Tensor], key: str, path: Path) -> torch.Size:
    """The shape of a weight that gives a size of the model; ValueError, naming the file, when it is not there."""
    if key not in state or not state[key].ndim:
        raise ValueError(f"{path} is a file of another model: it has no weight {key}")
    return state[key].shape
